"""Ask a process that reads crops: requests and answers go over a socket, pixels through shared memory."""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from everylabel.backend.embedding.prepared import Prepared
from everylabel.backend.images.decoding_child import HEADER
from everylabel.backend.images.errors import (
    AddressRefusedError,
    ImageMissingError,
    ImageUnreachableError,
    NotAnImageError,
)
from everylabel.backend.label_studio.crop_errors import ImageError

MOST_PIXELS = 512
"""Sides of the largest crop that is read so."""
AT_A_TIME = 32
"""The most crops that a process is asked for at a time."""
SHARED_BYTES = AT_A_TIME * 3 * MOST_PIXELS**2
PATIENCE = 360.0
"""Seconds that a process may take for an answer: more than the limits of the last picture that it begins to fetch and decode."""
TOLD_ERRORS: dict[str, Callable[[str, str], ImageError]] = {
    error.__name__: error
    for error in (AddressRefusedError, ImageMissingError, ImageUnreachableError, NotAnImageError)
}
"""The errors that are the same wherever a crop is read. After any other, the process that asks reads it by itself."""


class ReadingConnection:
    """The connection to one process: requests and answers over a socket, pixels through shared memory.

    Args:
        connection: The socket.
        shared: The file descriptor of the memory.
    """

    def __init__(self, connection: socket.socket, shared: int) -> None:
        self._connection = connection
        self.shared = shared
        self._pixels = mmap.mmap(shared, SHARED_BYTES)
        self.id: int | None = None
        """The process, once it has started."""

    @classmethod
    def connected(cls) -> tuple[ReadingConnection, socket.socket]:
        """Return a connection, and its end that belongs to the process."""
        ours, theirs = socket.socketpair()
        # A timeout of Python's would make each call two.
        seconds, rest = divmod(PATIENCE, 1)
        for timeout in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, timeout, struct.pack("ll", int(seconds), int(1e6 * rest)))
        return cls(ours, _shared_memory()), theirs

    def fileno(self) -> int:
        """Return the socket's file descriptor, for `select`."""
        return self._connection.fileno()

    def close(self) -> None:
        """Close the connection, which ends the process once it reads from it."""
        self._connection.close()
        self._pixels.close()

    def kill(self) -> None:
        """End the process now."""
        if self.id is not None:
            with suppress(OSError):
                os.kill(self.id, signal.SIGKILL)

    def welcome(self) -> None:
        """Take in what the process says once it has started."""
        self.id = self.receive()["ready"]

    def ask(self, request: dict[str, Any], side: int) -> list[Prepared | ImageError | None]:
        """Have crops read, and copy their pixels."""
        head = json.dumps(request).encode("utf-8", "surrogatepass")
        self._connection.sendall(HEADER.pack(len(head), 0) + head)
        answers = self.receive()["crops"]
        count = sum(isinstance(one, str) for one in answers)
        shape = (count, side, side, 3)
        rows = iter(np.frombuffer(self._pixels, np.uint8, count * 3 * side * side).reshape(shape).copy())
        return [
            Prepared(next(rows), bytes.fromhex(one))
            if isinstance(one, str)
            else one and TOLD_ERRORS[one[0]](*one[1:])
            for one in answers
        ]

    def receive(self) -> dict[str, Any]:
        """Wait for a message."""
        head, _ = HEADER.unpack(self._read(HEADER.size))
        message: dict[str, Any] = json.loads(self._read(head))
        return message

    def _read(self, n: int) -> bytes:
        found = b""
        while len(found) < n:
            some = self._connection.recv(n - len(found), socket.MSG_WAITALL)
            if not some:
                raise EOFError
            found += some
        return found


def _shared_memory() -> int:
    """Return the file descriptor of memory for the pixels of one answer; only what is written takes any."""
    if hasattr(os, "memfd_create"):
        shared = os.memfd_create("crops")
    else:
        with tempfile.TemporaryFile() as file:
            shared = os.dup(file.fileno())
    os.ftruncate(shared, SHARED_BYTES)
    return shared
