"""Decode images in processes that can be killed, for formats whose cost cannot be known beforehand."""

from __future__ import annotations

import io
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from threading import BoundedSemaphore, Lock
from typing import Any, cast

from PIL import Image, UnidentifiedImageError

from everylabel.backend.images.decoding_child import HEADER, send
from everylabel.backend.images.decoding_limits import ImageLimits, MemoryBudget
from everylabel.backend.images.errors import DecodingUnavailableError, ImageTooLargeError, NotAnImageError
from everylabel.backend.images.load import too_long
from everylabel.backend.label_studio.crop_errors import ImageError

MOST_PROCESSES = min(4, os.cpu_count() or 1)
"""How many images are decoded so at a time: decoding takes a core, and each process some 40 MB."""
PATIENCE = 4
"""How many times the processor time an image may take it may take by the clock, on a busy machine."""
_KEPT_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "PYTHON",
    "LC_",
    "LD_",
    "DYLD_",
    "VIRTUAL_ENV",
    "COVERAGE",
    "SSL_CERT",
)
_ERRORS = {error.__name__: error for error in (ImageTooLargeError, NotAnImageError)}


def bare_environment() -> dict[str, str]:
    """Return the environment of a process that reads strangers' files: it holds no token or password of ours."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT_VARIABLES)}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class _EndedError(Exception):
    """The process has ended before it answered."""


class _OverdueError(Exception):
    """The process did not answer in time."""


class DecodingProcesses:
    """Processes that decode images one after the other, started when they are first needed.

    One that takes too long, takes too much memory or crashes is gone, with its image alone; the next image gets a new
    one. A process ends by itself after a minute without work, and with its parent.

    Args:
        most: how many images are decoded at a time.
    """

    def __init__(self, most: int = MOST_PROCESSES) -> None:
        self._turns = BoundedSemaphore(most)
        self._lock = Lock()
        self._free: list[_Process] = []
        self._parent = os.getpid()

    def decode(
        self,
        content: bytes,
        limits: ImageLimits,
        name: str,
        enough: int | None,
        formats: tuple[str, ...],
        memory: MemoryBudget,
    ) -> Image.Image:
        """Decode an image file as `load_rgb` does, in a process of its own.

        Args:
            content: the file.
            limits: how many pixels are decoded, and for how long.
            name: what messages call the image.
            enough: pixels the longer side needs; None gives every pixel.
            formats: the formats that are tried, as Pillow names them.
            memory: where memory for the image is taken, before the process takes it.

        Raises:
            UnidentifiedImageError: the file is of none of these formats.
            ImageError: it is damaged or too large, or takes too long; or no process can be started.
        """
        request = {
            "pixels": limits.max_pixels,
            "seconds": limits.decode_seconds,
            "name": name,
            "enough": enough,
            "formats": formats,
        }
        # Who holds memory must not wait for one who waits for memory.
        with nullcontext() if memory.is_held else self._turns:
            while True:
                process = self._take()
                try:
                    image = process.decode(request, content, PATIENCE * limits.decode_seconds, memory)
                except (ImageError, UnidentifiedImageError):
                    self._put(process)
                    raise
                except _EndedError as error:
                    ended = process.end()
                    if process.had_gone and ended != -signal.SIGXCPU:
                        continue  # perhaps before it was asked; a new one tells
                    raise _killed(ended, name, limits) from error
                except _OverdueError as error:
                    process.end()
                    raise too_long(name, limits) from error
                except BaseException:
                    process.end()
                    raise
                self._put(process)
                return image

    def close(self) -> None:
        """End the processes that have nothing to do."""
        with self._lock:
            free, self._free = self._free, []
        for process in free:
            process.end()

    def _take(self) -> _Process:
        with self._lock:
            if self._parent != os.getpid():  # a fork: they are the parent's
                self._free, self._parent = [], os.getpid()
            while self._free:
                process = self._free.pop()
                if process.is_alive:
                    return process
                process.end()
        return _Process()

    def _put(self, process: _Process) -> None:
        with self._lock:
            self._free.append(process)


class _Process:
    """One process that decodes images."""

    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "everylabel.backend.images.decoding_child", str(os.getpid())],
                env=bare_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # decoders write there what the file makes them write
                bufsize=0,
            )
        except OSError as error:
            raise DecodingUnavailableError(
                f"No process could be started to decode the image ({error.strerror})",
                "It will be tried again; check the limits of memory and processes",
            ) from error
        self._requests = io.BufferedWriter(cast("io.RawIOBase", self._process.stdin))
        self._answers = cast("io.RawIOBase", self._process.stdout)
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._answers, selectors.EVENT_READ)
        self._images = 0
        self._has_answered = False

    @property
    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    @property
    def had_gone(self) -> bool:
        """Return whether it may have ended before its last image: it had worked before, and said nothing of this one."""
        return self._images > 1 and not self._has_answered

    def end(self) -> int:
        """End the process and return its exit status: negative, the signal that ended it."""
        with suppress(OSError):
            self._requests.close()
        try:
            # What has been killed is gone at once; what waits for work goes as its input ends.
            status = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._ready.close()
        self._answers.close()
        return status

    def decode(
        self, request: Mapping[str, Any], content: bytes, seconds: float, memory: MemoryBudget
    ) -> Image.Image:
        """Have one image decoded.

        Args:
            request: what the process is asked for.
            content: the file.
            seconds: how long each answer may take, by the clock.
            memory: where memory for the image is taken.
        """
        self._images, self._has_answered = self._images + 1, False
        self._send(request, content)
        answer, _ = self._receive(seconds)
        self._has_answered = True
        if "takes" in answer:
            memory.take(answer["takes"])
            self._send({"go": True})
            answer, _ = self._receive(seconds)
        if answer.get("error") == UnidentifiedImageError.__name__:
            raise UnidentifiedImageError
        if "error" in answer:
            raise _ERRORS[answer["error"]](answer["reason"], answer["way_out"])
        image = Image.new("RGB", tuple(answer["size"]))
        memory.take(4 * image.width * image.height)
        received = 0
        while received < image.height:
            answer, pixels = self._receive(seconds)
            rows = Image.frombytes("RGB", (image.width, len(pixels) // (3 * image.width)), pixels)
            image.paste(rows, (0, answer["top"]))
            received += rows.height
        return image

    def _send(self, message: Mapping[str, Any], content: bytes = b"") -> None:
        try:
            send(self._requests, message, content)
        except OSError as error:
            raise _EndedError from error

    def _receive(self, seconds: float) -> tuple[dict[str, Any], bytes]:
        until = time.monotonic() + seconds
        head, body = HEADER.unpack(self._read(HEADER.size, until))
        message: dict[str, Any] = json.loads(self._read(head, until))
        return message, self._read(body, until)

    def _read(self, n: int, until: float) -> bytes:
        found = bytearray()
        while len(found) < n:
            if not self._ready.select(max(0.0, until - time.monotonic())):
                raise _OverdueError
            some = os.read(self._answers.fileno(), min(n - len(found), 1 << 20))
            if not some:
                raise _EndedError
            found += some
        return bytes(found)


def _killed(status: int, name: str, limits: ImageLimits) -> ImageError:
    """Return the error for an image whose process ended without an answer."""
    if status == -signal.SIGXCPU:
        return too_long(name, limits)
    return NotAnImageError(
        f"{name} makes the program end that decodes it (status {status})",
        "Save the image anew in another program, or delete the task",
    )


decoding_processes = DecodingProcesses()
"""Of this process."""
