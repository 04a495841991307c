"""The gunicorn worker that `everylabel serve` runs: gunicorn keeps the processes, this reads the requests."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

from gunicorn.workers.base import Worker

from everylabel.backend.web_server.limits import Limits, affordable_connections
from everylabel.backend.web_server.server import Server


class BufferingWorker(Worker):  # type: ignore[misc]
    """Reads requests in an event loop and answers them in threads.

    gunicorn's own threads read from the socket: eight clients that send half a header keep eight threads waiting,
    and nobody else is answered.
    """

    def run(self) -> None:
        """Serve until told to stop."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.handle_exit, signal.SIGTERM, None)
        granted = Limits()
        limits = replace(
            granted,
            body_bytes=self.wsgi.config["MAX_CONTENT_LENGTH"],
            held_bytes=max(granted.held_bytes, self.wsgi.config["MAX_CONTENT_LENGTH"]),
            idle_seconds=float(self.cfg.keepalive),
            stop_seconds=float(self.cfg.graceful_timeout),
            connections=affordable_connections(granted.connections),
        )
        server = Server(self.wsgi, limits, self.cfg.threads)
        await server.run([found.sock for found in self.sockets], self.cfg.backlog, self._is_wanted)

    def _is_wanted(self) -> bool:
        self.notify()
        return bool(self.alive) and self.ppid == os.getppid()
