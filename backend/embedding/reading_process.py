"""Read crops in several processes, where threads would wait for each other.

Threads of one process decode about a thousand small pictures a second, however many cores there are: copying and resizing
them holds Python's lock. An encoder on a GPU, or on many cores, takes more.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from threading import Condition, Lock, Timer
from typing import TYPE_CHECKING

from everylabel.backend.embedding.reading_connection import MOST_PIXELS, ReadingConnection
from everylabel.backend.images.decoding_limits import BYTES_IN_FLIGHT
from everylabel.backend.images.decoding_process import bare_environment
from everylabel.model.cores import usable_cores

if TYPE_CHECKING:
    from everylabel.backend.embedding.prepared import Prepared
    from everylabel.backend.images.reader import ImageReader
    from everylabel.backend.label_studio.crop_errors import ImageError
    from everylabel.backend.store import Task
    from everylabel.model.encoders import Encoder

log = logging.getLogger(__name__)

LEAST_MEMORY = 50_000_000
"""What decoding may take in each process at least."""
CORES_A_PROCESS = 4
"""On a CPU, whose encoder takes most of every core: preparing a crop takes an eighth of what encoding it does."""
WORTH_IT = 1000
"""Crops from which on processes are started: they take some seconds until they can be used."""
IDLE_SECONDS = 60.0
GOING_SECONDS = 2.0
"""How long processes may take to end by themselves."""


class ReadingProcesses:
    """Processes that read crops, started when they are first needed and ended after a minute without work.

    Safe to share between threads.

    Args:
        count: How many.
        threads: How many crops they fetch at a time, all together, at most.
    """

    def __init__(self, count: int, threads: int) -> None:
        self.count = count
        self._threads = threads
        self._changed = Condition()
        self._parent = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._starting: list[ReadingConnection] = []
        self._free: list[ReadingConnection] = []
        self._busy = 0
        self._used_at = 0.0
        self._users = 0

    def __enter__(self) -> ReadingProcesses:
        with self._changed:
            if self._parent != os.getpid():  # a fork: they are the parent's
                self._parent, self._process, self._users = os.getpid(), None, 0
                self._starting, self._free, self._busy = [], [], 0
            self._users += 1
            for one in _readable(self._free):  # whoever is asked nothing says nothing: they have ended
                self._free.remove(one)
                one.close()
            here = len(self._starting) + len(self._free) + self._busy
            if self._process is None or (here < self.count and not self._busy):
                self._end()
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
            if isinstance(error, OSError):
                one.kill()
            return [None] * len(tasks)
        finally:
            if usable is None:
                one.close()
            self._put(usable)
        return found

    def _take(self) -> ReadingConnection | None:
        """Wait for a process that has nothing to do; None while they start, and once all have ended."""
        with self._changed:
            if self._starting:
                self._welcome()
            self._changed.wait_for(lambda: self._free or not self._busy)
            if not self._free:
                return None
            self._busy += 1
            return self._free.pop()

    def _put(self, one: ReadingConnection | None) -> None:
        """Give a process back, or none where it has ended."""
        with self._changed:
            self._busy -= 1
            if one is not None:
                self._free.append(one)
            self._changed.notify_all()

    def _welcome(self) -> None:
        """Take in the processes that have started."""
        for one in _readable(self._starting):
            self._starting.remove(one)
            try:
                one.welcome()
                self._free.append(one)
            except (OSError, EOFError):
                one.close()

    def _start(self) -> None:
        pairs: list[tuple[ReadingConnection, socket.socket]] = []
        try:
            pairs.extend(ReadingConnection.connected() for _ in range(self.count))
            self._process = self._forker([n for ours, end in pairs for n in (end.fileno(), ours.shared)])
            self._starting = [ours for ours, _ in pairs]
        except OSError as error:
            log.warning("no process could be started to read crops (%s)", error.strerror)
            for ours, _ in pairs:
                ours.close()
        for ours, end in pairs:
            end.close()
            os.close(ours.shared)

    def _forker(self, descriptors: list[int]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "everylabel.backend.embedding.reading_child", str(os.getpid())]
        sizes = [max(1, self._threads // self.count), max(LEAST_MEMORY, BYTES_IN_FLIGHT // self.count)]
        return subprocess.Popen(
            [*command, *map(str, sizes), *map(str, descriptors)],
            env=bare_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # decoders write there what the file makes them write
            pass_fds=descriptors,
        )

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
        if process is None:
            return
        try:
            process.wait(GOING_SECONDS)  # it waits for what it has forked, so that nothing is left of them
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)  # a group of its own: whatever it has forked
            process.kill()
            process.wait()


def _readable(connections: Sequence[ReadingConnection]) -> list[ReadingConnection]:
    """Return those that have something to say, or have ended."""
    ready = select.poll()
    for one in connections:
        ready.register(one, select.POLLIN)
    numbers = {number for number, _ in ready.poll(0)}
    return [one for one in connections if one.fileno() in numbers]


def processes_for(encoder: Encoder, threads: int) -> ReadingProcesses | None:
    """Return the processes of this process that read crops for an encoder; None where threads do as well.

    Args:
        encoder: Its device tells how many cores it leaves.
        threads: How many crops are fetched at a time, by all processes together, at most.
    """
    on_gpu = not str(getattr(encoder, "device", "cpu")).startswith("cpu")
    # One more than it uses: the trainer leaves a core to those that people wait for.
    cores = usable_cores() + 1
    count = min(threads, cores - 3 if on_gpu else cores // CORES_A_PROCESS)
    if count < 2 or encoder.has_own_preparation or encoder.crop_size > MOST_PIXELS:
        return None
    with _lock:
        return _of_this_process.setdefault((count, threads), ReadingProcesses(count, threads))


_lock = Lock()
_of_this_process: dict[tuple[int, int], ReadingProcesses] = {}
