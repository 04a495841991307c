"""One client's connection: each request is read whole, against the clock, and answered without a thread of its own."""

from __future__ import annotations

import asyncio
import json
import logging
from email.utils import formatdate
from enum import Enum, auto
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import h11

from everylabel.backend.web_server.wsgi_call import Answer, call, environ_of

if TYPE_CHECKING:
    from everylabel.backend.web_server.server import Server

log = logging.getLogger("everylabel.web")

LINGER_BYTES = 64 * 1024 * 1024
"""As much as a client that was refused may still send before it is cut off in the middle."""
NO_BODY = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


class State(Enum):
    """The event that a connection is waiting for."""

    IDLE = auto()
    """A request."""
    READING = auto()
    """The rest of a request."""
    ANSWERING = auto()
    """The application."""
    WRITING = auto()
    """The client, to read its answer."""
    CLOSING = auto()
    """The client, to notice that it was refused."""


class Connection(asyncio.Protocol):
    """Reads requests (RFC 9112, by h11), one after the other, and hands each to the application once it is whole.

    Args:
        server: what all connections share.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=server.limits.header_bytes)
        self._patience = server.next_patience()
        self._state = State.IDLE
        self._clock: asyncio.TimerHandle | None = None
        self._request: h11.Request | None = None
        self._body = BytesIO()
        self._discarded = 0
        self.held = 0
        """Bytes of the body that have come."""

    @property
    def is_waited_for(self) -> bool:
        """True if it is the client's turn, and nothing of ours is lost with the connection."""
        return self._state not in {State.ANSWERING, State.WRITING}

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place among the others; the clock runs from here."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)  # to hear when an answer has been taken
        if not self._server.add(self):
            log.error("every connection of this worker waits for its answer: a new one is turned away")
            self.drop()
            return
        self._allow(self._patience * self._limits.header_seconds)

    def data_received(self, data: bytes) -> None:
        """Take in what has come."""
        if self._state is State.CLOSING:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self.drop()
            return
        if self._state is State.IDLE:
            self._state = State.READING
            self._allow(self._patience * self._limits.header_seconds)
        self._http.receive_data(data)
        self._read_on()

    def resume_writing(self) -> None:
        """Go on once the client has taken the answer."""
        if self._state is State.WRITING:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave nothing behind."""
        del exc
        self._allow(None)
        self._release_body()
        self._server.remove(self)

    # --- reading

    def _read_on(self) -> None:
        """Go through what has come, up to the end of one request."""
        try:
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    self._request = event
                    if not self._begin(event):
                        return
                elif isinstance(event, h11.Data):
                    if not self._keep(bytes(event.data)):
                        return
                else:  # its end has come, or the rest has not
                    if isinstance(event, h11.EndOfMessage) and self._request is not None:
                        self._hand_over(self._request)
                    return
        except h11.RemoteProtocolError as error:
            self.refuse(error.error_status_hint, f"This is not a valid HTTP/1.1 request: {error}.")

    def _begin(self, request: h11.Request) -> bool:
        self._state = State.READING
        self._allow(self._patience * self._limits.body_seconds)
        told = next((value for name, value in request.headers if name == b"content-length"), b"0")
        if int(told) > self._limits.body_bytes:
            self._refuse_size()
            return False
        if self._http.they_are_waiting_for_100_continue:
            self._transport.write(self._sent(h11.InformationalResponse(status_code=100, headers=[])))
        return True

    def _keep(self, data: bytes) -> bool:
        if self.held + len(data) > self._limits.body_bytes:
            self._refuse_size()
            return False
        self._body.write(data)
        self.held += len(data)
        self._server.hold(len(data))
        return self._state is State.READING  # where it was the largest of too many, it was refused just now

    def _refuse_size(self) -> None:
        megabytes = self._limits.body_bytes / 1024 / 1024
        self.refuse(
            413, f"The request is larger than EVERYLABEL_MAX_REQUEST_MEGABYTES allows: {megabytes:g} MB."
        )

    def _hand_over(self, request: h11.Request) -> None:
        self._state = State.ANSWERING
        self._allow(None)
        self._transport.pause_reading()
        self._body.seek(0)
        environ = environ_of(
            request,
            self._body,
            size=self.held,
            client=_address(self._transport.get_extra_info("peername")),
            server=_address(self._transport.get_extra_info("sockname")),
        )
        answered = self._loop.run_in_executor(self._server.executor(environ), call, self._server.app, environ)
        answered.add_done_callback(self._answer)

    # --- answering

    def _answer(self, answered: asyncio.Future[Answer]) -> None:
        self._release_body()
        if answered.cancelled() or self._transport.is_closing():
            return
        if (failure := answered.exception()) is not None:
            log.error("a request failed outside the application", exc_info=failure)
            answer = _refusal(500, "Something failed that should not have; the backend's log says what.")
        else:
            answer = answered.result()
        self._state = State.WRITING
        self._allow(self._limits.answer_seconds)
        try:
            self._write(answer, close=self._server.stopping)
        except h11.LocalProtocolError:
            log.exception("the application's answer is not valid HTTP/1.1")
            self.drop()
            return
        if not self._transport.get_write_buffer_size():
            self._finish()

    def _write(self, answer: Answer, *, close: bool) -> None:
        headers = [pair for pair in answer.headers if pair[0].lower() != b"connection"]
        has_length = any(name.lower() == b"content-length" for name, _ in headers)
        is_head = self._request is not None and self._request.method == b"HEAD"
        if not has_length and not is_head and answer.status not in NO_BODY:
            headers.append((b"Content-Length", str(len(answer.body)).encode()))
        headers.append((b"Date", formatdate(usegmt=True).encode()))
        if close:
            headers.append((b"Connection", b"close"))
        out = self._sent(h11.Response(status_code=answer.status, headers=headers, reason=answer.reason))
        if answer.body and not is_head and answer.status not in NO_BODY:
            out += self._sent(h11.Data(data=answer.body))
        self._transport.write(out + self._sent(h11.EndOfMessage()))

    def _sent(self, event: Any) -> bytes:
        return self._http.send(event) or b""

    def _finish(self) -> None:
        """Wait for the next request, where there may be one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self._transport.close()
            return
        self._http.start_next_cycle()
        self._request, self._state = None, State.IDLE
        self._server.is_waiting_again(self)
        if self._server.stopping:
            self._transport.close()
            return
        self._allow(self._limits.idle_seconds)
        self._transport.resume_reading()
        if self._http.trailing_data[0]:  # the next request came together with this one
            self._state = State.READING
            self._allow(self._patience * self._limits.header_seconds)
            self._read_on()

    # --- ending

    def refuse(self, status: int, why: str) -> None:
        """Answer a request that is not read to its end, and give the client time to see the answer."""
        self._release_body()
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.drop()
            return
        self._state = State.CLOSING
        self._write(_refusal(status, why), close=True)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._allow(self._limits.linger_seconds)

    def stop(self) -> None:
        """End a connection on which no request has begun."""
        if self._state is State.IDLE:
            self._transport.close()

    def drop(self) -> None:
        """End the connection at once."""
        self._state = State.CLOSING
        self._transport.abort()

    def _allow(self, seconds: float | None) -> None:
        """Start the clock anew, or stop it."""
        if self._clock is not None:
            self._clock.cancel()
        self._clock = None if seconds is None else self._loop.call_later(seconds, self._is_late)

    def _is_late(self) -> None:
        if self._state is State.READING:
            self.refuse(408, "The rest of the request did not come in time.")
        else:
            self.drop()

    def _release_body(self) -> None:
        """Free the body."""
        self._server.release(self.held)
        self.held, self._body = 0, BytesIO()


def _refusal(status: int, why: str) -> Answer:
    body = json.dumps({"error": why}).encode()
    headers = [(b"Content-Type", b"application/json"), (b"Content-Length", str(len(body)).encode())]
    return Answer(status, HTTPStatus(status).phrase.encode(), headers, body)


def _address(found: Any) -> tuple[str, int]:
    """Return the address and port of one end; a Unix socket has neither."""
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) else ("localhost", 0)
