"""Read crops in several processes, where threads would wait for each other.

Threads of one process decode about a thousand small pictures a second, however many cores there are: copying and resizing
them holds Python's lock. An encoder on a GPU, or on many cores, takes more.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Condition, Lock, Timer
from typing import TYPE_CHECKING, Any

import numpy as np

from everylabel.backend.embedding.prepared import Prepared
from everylabel.backend.images.decoding_child import HEADER
from everylabel.backend.images.decoding_limits import BYTES_IN_FLIGHT
from everylabel.backend.images.decoding_process import bare_environment
from everylabel.backend.images.errors import (
    AddressRefusedError,
    ImageMissingError,
    ImageUnreachableError,
    NotAnImageError,
)
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.model.cores import usable_cores

if TYPE_CHECKING:
    from everylabel.backend.images.reader import ImageReader
    from everylabel.backend.store import Task
    from everylabel.model.encoders import Encoder

log = logging.getLogger(__name__)

MOST_PIXELS = 512
"""Sides of the largest crop that is read so."""
AT_A_TIME = 32
"""The most crops that a process is asked for at a time."""
SHARED_BYTES = AT_A_TIME * 3 * MOST_PIXELS**2
LEAST_MEMORY = 100_000_000
"""What decoding may take in each process at least: a photograph of 30 megapixels of which several crops are parts."""
_ERRORS: dict[str, Callable[[str, str], ImageError]] = {
    error.__name__: error
    for error in (AddressRefusedError, ImageMissingError, ImageUnreachableError, NotAnImageError)
}
CORES_A_PROCESS = 4
"""On a CPU, whose encoder takes most of every core: preparing a crop takes an eighth of what encoding it does."""
WORTH_IT = 1000
"""Crops from which on processes are started: they take some seconds until they can be used."""
IDLE_SECONDS = 60.0
PATIENCE = 120.0
"""Seconds that a process may take for an answer."""


class _Process:
    """The connection to one process: requests and answers over a socket, pixels through shared memory.

    Args:
        connection: The socket.
        shared: The file descriptor of the memory.
    """

    def __init__(self, connection: socket.socket, shared: int) -> None:
        self._connection = connection
        self.shared = shared
        self._pixels = mmap.mmap(shared, SHARED_BYTES)

    @classmethod
    def connected(cls) -> tuple[_Process, socket.socket]:
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
        """Close the connection, which ends the process."""
        self._connection.close()
        self._pixels.close()
        os.close(self.shared)

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
            else one and _ERRORS[one[0]](*one[1:])
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


class ReadingProcesses:
    """Processes that read crops, started when they are first needed and ended after a minute without work.

    Safe to share between threads.

    Args:
        count: How many.
        threads: How many crops they fetch at a time, all together.
    """

    def __init__(self, count: int, threads: int) -> None:
        self.count = count
        self._threads = threads
        self._changed = Condition()
        self._parent = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._starting: list[_Process] = []
        self._free: list[_Process] = []
        self._busy = 0
        self._used_at = 0.0
        self._users = 0

    def __enter__(self) -> ReadingProcesses:
        with self._changed:
            if self._parent != os.getpid():  # a fork: they are the parent's
                self._parent, self._process, self._users = os.getpid(), None, 0
                self._starting, self._free, self._busy = [], [], 0
            self._users += 1
            if self._process is not None and self._process.poll() is not None:
                self._end()
            if self._process is None:
                self._start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._changed:
            self._users -= 1
            self._used_at = time.monotonic()
            self._end_when_idle(IDLE_SECONDS)

    @property
    def process_id(self) -> int | None:
        """Return the id of the process that forks the others, and of their group; None where none runs."""
        return None if self._process is None else self._process.pid

    def end(self) -> None:
        """End them now."""
        with self._changed:
            self._end()

    def wait(self, seconds: float) -> bool:
        """Wait until one of them can be used."""
        until = time.monotonic() + seconds
        while (one := self._take()) is None:
            if time.monotonic() > until or not self._starting:
                return False
            time.sleep(0.05)
        self._put(one)
        return True

    def read(
        self, tasks: Sequence[Task], reader: ImageReader, side: int, pass_name: str
    ) -> list[Prepared | ImageError | None]:
        """Read crops.

        Args:
            tasks: Their tasks, `AT_A_TIME` at most.
            reader: Described to the processes, which make one like it.
            side: Pixels of a crop's sides.
            pass_name: What caches are kept for.

        Returns:
            For each the crop, or why it cannot be read; None where it is to be read in another way: no process has started yet, none
            is left, or it takes more memory than they have.
        """
        request = {
            "tasks": [[task.id, task.image_url] for task in tasks],
            "reader": reader.described(),
            "authorization": reader.authorization(),
            "side": side,
            "pass": pass_name,
        }
        one = self._take() if tasks else None
        if one is None:
            return [None] * len(tasks)
        usable = None
        try:
            found = one.ask(request, side)
            usable = one
        except (OSError, EOFError) as error:
            log.warning("a process that reads crops has ended or hangs (%s)", type(error).__name__)
            return [None] * len(tasks)
        finally:
            if usable is None:
                one.close()
            self._put(usable)
        return found

    def _take(self) -> _Process | None:
        """Wait for a process that has nothing to do; None while they start, and once all have ended."""
        with self._changed:
            if self._starting:
                self._welcome()
            self._changed.wait_for(lambda: self._free or not self._busy)
            if not self._free:
                return None
            self._busy += 1
            return self._free.pop()

    def _put(self, one: _Process | None) -> None:
        """Give a process back, or none where it has ended."""
        with self._changed:
            self._busy -= 1
            if one is not None:
                self._free.append(one)
            self._changed.notify_all()

    def _welcome(self) -> None:
        """Take in the processes that have started."""
        for one in select.select(self._starting, [], [], 0)[0]:
            self._starting.remove(one)
            with suppress(OSError, EOFError):
                one.receive()
                self._free.append(one)

    def _start(self) -> None:
        pairs = [_Process.connected() for _ in range(self.count)]
        command = [sys.executable, "-m", "everylabel.backend.embedding.reading_child", str(os.getpid())]
        sizes = [-(-self._threads // self.count), max(LEAST_MEMORY, BYTES_IN_FLIGHT // self.count)]
        descriptors = [number for ours, end in pairs for number in (end.fileno(), ours.shared)]
        try:
            self._process = subprocess.Popen(
                [*command, *map(str, sizes), *map(str, descriptors)],
                env=bare_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # decoders write there what the file makes them write
                pass_fds=descriptors,
                start_new_session=True,
            )
        except OSError as error:
            log.warning("no process could be started to read crops (%s)", error.strerror)
        for ours, end in pairs:
            end.close()
            if self._process is None:
                ours.close()
            else:
                self._starting.append(ours)

    def _end_when_idle(self, seconds: float) -> None:
        timer = Timer(seconds, self._end_if_idle)
        timer.daemon = True
        timer.start()

    def _end_if_idle(self) -> None:
        with self._changed:
            if not self._users and time.monotonic() - self._used_at >= IDLE_SECONDS - 1:
                self._end()

    def _end(self) -> None:
        for one in (*self._starting, *self._free):
            one.close()
        self._starting, self._free = [], []
        process, self._process = self._process, None
        if process is not None:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)  # of a session of its own: whatever it forked
            process.wait()


def processes_for(encoder: Encoder, threads: int) -> ReadingProcesses | None:
    """Return the processes of this process that read crops for an encoder; None where threads do as well.

    Args:
        encoder: Its device tells how many cores it leaves.
        threads: How many crops are fetched at a time, by all processes together.
    """
    on_gpu = not str(getattr(encoder, "device", "cpu")).startswith("cpu")
    count = min(threads, usable_cores() - 2 if on_gpu else usable_cores() // CORES_A_PROCESS)
    if count < 2 or encoder.enough_pixels is None or encoder.crop_size > MOST_PIXELS:
        return None
    with _lock:
        return _of_this_process.setdefault((count, threads), ReadingProcesses(count, threads))


_lock = Lock()
_of_this_process: dict[tuple[int, int], ReadingProcesses] = {}
