"""How requests reach Label Studio and the servers that hold images, under httpx's clients."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from urllib.request import getproxies

import httpcore
import httpx

from everylabel.backend.ssl_context import ssl_context


class PoolTransport(httpx.BaseTransport):
    """An httpx transport on a pool of connections of one's own making. Safe to share between threads.

    Proxy settings of the environment are not used.

    Args:
        network: Makes the connections.
        max_connections: How many may be open at a time.
        keepalive_seconds: How long an unused connection stays open.
    """

    def __init__(
        self,
        network: httpcore.NetworkBackend | None = None,
        *,
        max_connections: int = 64,
        keepalive_seconds: float = 15.0,
    ) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl_context(),
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=keepalive_seconds,
            network_backend=network or PromptNetwork(),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; redirects come back as they are."""
        if not isinstance(request.stream, httpx.SyncByteStream):
            raise TypeError(f"{type(self).__name__} takes synchronous requests only")
        inner = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            response = self._pool.handle_request(inner)
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise _as_httpx(error) from error
        except httpcore.UnsupportedProtocol as error:
            raise httpx.UnsupportedProtocol(str(error)) from error
        if not isinstance(response.stream, Iterable):
            raise TypeError("httpcore answered with an asynchronous stream")
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response.stream),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


def prompt_transport() -> PoolTransport | None:
    """Return a transport that acknowledges at once; None where the environment names a proxy, which httpx then uses."""
    is_named = {"http", "https", "all"} & getproxies().keys()  # it has "no" too, for NO_PROXY
    return None if is_named else PoolTransport(keepalive_seconds=5.0)


class PromptNetwork(httpcore.NetworkBackend):
    """Connections that acknowledge at once what has come.

    Label Studio's own server (`label-studio start`) writes status, headers and body one by one, and its system holds a
    small piece back until the one before is acknowledged (Nagle's algorithm, RFC 896); ours waits 40 ms with that
    (delayed acknowledgement, RFC 1122). So every answer came that much later.

    Args:
        network: Opens the connections; the system's own sockets if None.
    """

    def __init__(self, network: httpcore.NetworkBackend | None = None) -> None:
        self._network = network or httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Open a connection."""
        return _PromptStream(self._network.connect_tcp(host, port, timeout, local_address, socket_options))


class StreamAround(httpcore.NetworkStream):
    """A connection around another, which does all that a subclass does not."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def around(self, stream: httpcore.NetworkStream) -> httpcore.NetworkStream:
        """Return one of this kind around another connection."""
        return type(self)(stream)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what has come, and wait for it."""
        return self._stream.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Encrypt it from now on."""
        return self.around(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks of a connection, its socket for example."""
        return self._stream.get_extra_info(info)


class _PromptStream(StreamAround):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        super().__init__(stream)
        found = stream.get_extra_info("socket")
        self._socket = found if isinstance(found, socket.socket) else None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._socket is not None and hasattr(socket, "TCP_QUICKACK"):  # only Linux has it
            with suppress(OSError):
                # It holds for what comes next only: the system goes back to waiting by itself.
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return super().read(max_bytes, timeout)


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise _as_httpx(error) from error

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


def _as_httpx(error: Exception) -> httpx.TransportError:
    if isinstance(error, httpcore.ConnectTimeout):
        return httpx.ConnectTimeout(str(error))
    if isinstance(error, httpcore.TimeoutException):
        return httpx.ReadTimeout(str(error))
    if isinstance(error, httpcore.ConnectError):
        return httpx.ConnectError(str(error))
    if isinstance(error, httpcore.NetworkError):
        return httpx.ReadError(str(error))
    return httpx.RemoteProtocolError(str(error))
