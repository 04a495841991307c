"""The parts that the connections of one worker share: threads that answer, room for bodies, and a place for each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import count
from typing import Any

from everylabel.backend.web_server.connection import Connection
from everylabel.backend.web_server.limits import Limits
from everylabel.backend.web_server.wsgi_call import WsgiApp

log = logging.getLogger("everylabel.web")

QUICK = {("POST", "/webhook"), ("GET", "/health")}
"""Answered in milliseconds, and waited for by somebody who gives up after a second: they have threads of their own."""
QUICK_THREADS = 2
GOLDEN_RATIO = 0.618
"""Its multiples fall apart evenly."""
CHECK_SECONDS = 0.25
"""How often a worker tells gunicorn that it lives, and looks whether it should stop."""


class Server:
    """A server that answers the requests of all connections of one process.

    Slow clients cost a connection and never a thread: a thread gets a request once it has arrived whole, and the answer
    is sent without one.

    Args:
        app: the WSGI application.
        limits: what clients are granted.
        threads: requests answered at a time, besides those of `QUICK`.
    """

    def __init__(self, app: WsgiApp, limits: Limits, threads: int) -> None:
        self.app = app
        self.limits = limits
        self.stopping = False
        self.connections: dict[Connection, None] = {}
        """Open ones; those that have been waited for longest come first."""
        self._held = 0
        self._numbers = count()
        self._threads = ThreadPoolExecutor(threads, "request")
        self._quick = ThreadPoolExecutor(QUICK_THREADS, "quick-request")

    def executor(self, environ: dict[str, Any]) -> Executor:
        """Return the threads that answer a request."""
        is_quick = (environ["REQUEST_METHOD"], environ["PATH_INFO"]) in QUICK
        return self._quick if is_quick else self._threads

    # --- a place for each connection

    def next_patience(self) -> float:
        """Return by which factor a connection may be slower than the limits say: 1 to 1.25, and not two alike.

        Hundreds that came together and are late together would otherwise be ended in the same instant, and come
        back in the next, while somebody else waits.
        """
        return 1 + 0.25 * (next(self._numbers) * GOLDEN_RATIO % 1)

    def add(self, connection: Connection) -> bool:
        """Give a new connection a place, at the cost of the one that has been waited for longest.

        Returns:
            Whether there is one: not if every other connection waits for its answer.
        """
        if len(self.connections) >= self.limits.connections:
            oldest = next((found for found in self.connections if found.is_waited_for), None)
            if oldest is None:
                return False
            oldest.drop()
            self.connections.pop(oldest, None)  # its own farewell comes with the loop's next turn
        self.connections[connection] = None
        return True

    def is_waiting_again(self, connection: Connection) -> None:
        """Put a connection that has had its answer at the end of the line."""
        if connection in self.connections:
            del self.connections[connection]
            self.connections[connection] = None

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self.connections.pop(connection, None)

    # --- room for bodies

    def hold(self, size: int) -> None:
        """Count bytes of a body that has come; where that is too much in sum, refuse the largest unfinished one."""
        self._held += size
        while self._held > self.limits.held_bytes:
            large = [
                found
                for found in self.connections
                if found.is_waited_for and found.held > self.limits.small_body_bytes
            ]
            if not large:
                return
            max(large, key=lambda found: found.held).refuse(
                503, "Too many large requests come at once. Send this one again later."
            )

    def release(self, size: int) -> None:
        """Count bytes of a body as gone."""
        self._held -= size

    # --- from start to end

    async def run(self, sockets: list[Any], backlog: int, is_wanted: Callable[[], bool]) -> None:
        """Serve on listening sockets until `is_wanted`, asked again and again, says no; then end in order.

        What has come by then is answered, for `stop_seconds` at most; the rest of a request has `linger_seconds`.
        """
        loop = asyncio.get_running_loop()
        listeners = [
            await loop.create_server(lambda: Connection(self), sock=found, backlog=backlog)
            for found in sockets
        ]
        while is_wanted():
            await asyncio.sleep(CHECK_SECONDS)
        self.stopping = True
        for listener in listeners:
            listener.close()
        for connection in list(self.connections):
            connection.stop()
        told = loop.time()
        while self._has_work(loop.time() - told):
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.drop()
        for pool in (self._threads, self._quick):
            pool.shutdown(wait=False, cancel_futures=True)

    def _has_work(self, stopping_for: float) -> bool:
        if stopping_for > self.limits.stop_seconds:
            return False
        if stopping_for < self.limits.linger_seconds:
            return bool(self.connections)
        return any(not found.is_waited_for for found in self.connections)
