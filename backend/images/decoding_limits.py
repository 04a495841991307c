"""Limits of decoding an image: bytes in flight in all threads of a process, scans of a JPEG, and seconds."""

from __future__ import annotations

import ctypes
import io
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Condition, local

from PIL import Image

BYTES_IN_FLIGHT = 400_000_000
"""Memory that all pictures being decoded in a process may take together; one that takes more is decoded alone."""
BYTES_A_PIXEL = 10
"""Memory that the largest picture may take: so many bytes for each pixel that `ImageLimits` allows."""
MOST_SCANS = 100
"""Scans of a progressive JPEG: encoders write 10 to 20, and each is another pass over the whole picture."""
SCANS_OF_THE_LARGEST = 30
"""Scans that a JPEG of as many pixels as are read may have; a smaller one more, up to `MOST_SCANS`."""
FEW_READS = 20_000
READ_HERE = {b"\x89PNG": 256, b"\xff\xd8": 256, b"RIFF": 256, b"GIF8": 100}
"""The formats decoded in this process by their first bytes, and the bytes that a read of a large honest file brings at least."""
_START_OF_SCAN = b"\xff\xda"
_PROGRESSIVE = (b"\xff\xc2", b"\xff\xc6", b"\xff\xca", b"\xff\xce")


LARGE_BLOCK = 8 << 20
KEPT_BYTES = 4 << 20
"""What malloc keeps at the end of a thread's memory."""
_CANVASES = {"WEBP": 3, "AVIF": 2}
"""Further copies of all pixels, four bytes each, that a decoder holds."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def return_large_blocks() -> None:
    """Make malloc return large blocks of memory to the system when they are freed.

    glibc's malloc keeps what a thread has freed, for this thread alone, once it has seen a large block freed: eight
    threads that decoded one huge image each, one after the other, held gigabytes. Pillow's blocks have 16 MB.

    It keeps a little for the next picture: without that each small one gave its memory back to the system, and took it again
    page by page.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


@dataclass(frozen=True)
class ImageLimits:
    """Limits of an image: bytes of the file, pixels of the decoded image, seconds of request and decoding."""

    max_bytes: int = 50_000_000
    max_pixels: int = 100_000_000
    connect_seconds: float = 5.0
    read_seconds: float = 15.0
    total_seconds: float = 60.0
    decode_seconds: float = 30.0
    """Of processor time. The slowest honest images measured, 100 megapixels of a TIFF in floating-point grey, take 3 s."""


class DecodingTooLongError(Exception):
    """The time for decoding one image is up."""


class TooManyPiecesError(Exception):
    """A file has to be read in far more pieces than an honest one of its size."""


class MemoryBudget:
    """A number of bytes that threads share: a thread that asks for more than is left waits its turn.

    Args:
        total: the bytes. A thread that asks for more waits until no other holds any, and then has them alone, unless
            `gives_more` is turned off.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.gives_more = True
        self.in_flight = 0
        """Bytes held at the moment."""
        self.most_in_flight = 0
        """The most bytes that were held at a time."""
        self._changed = Condition()
        self._queue: deque[object] = deque()
        self._thread = local()

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Hold what this thread takes inside until the outermost scope ends, and not only while it decodes."""
        depth = getattr(self._thread, "depth", 0)
        self._thread.depth = depth + 1
        try:
            yield
        finally:
            self._thread.depth = depth
            if depth == 0:
                self._release()

    @property
    def is_held(self) -> bool:
        """Return whether this thread holds some."""
        return bool(getattr(self._thread, "held", 0))

    def take(self, n: int) -> None:
        """Wait until `n` bytes are left, and hold them until the enclosing scope ends.

        A thread that holds some already does not wait: two that waited for each other would never end.

        Raises:
            MemoryError: it is more than all of it, and no more is given.
        """
        if n > self.total and not self.gives_more:
            raise MemoryError
        held = getattr(self._thread, "held", 0)
        with self._changed:
            if not held:
                turn = object()
                self._queue.append(turn)
                try:
                    self._changed.wait_for(lambda: self._queue[0] is turn and self._fits(n))
                finally:
                    self._queue.remove(turn)
                    self._changed.notify_all()
            self.in_flight += n
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self._thread.held = held + n

    def _fits(self, n: int) -> bool:
        return self.in_flight == 0 or self.in_flight + n <= self.total

    def _release(self) -> None:
        held = getattr(self._thread, "held", 0)
        if held:
            self._thread.held = 0
            with self._changed:
                self.in_flight -= held
                self._changed.notify_all()


decoding_memory = MemoryBudget(BYTES_IN_FLIGHT)
"""Of this process: every picture is decoded within it."""


class TimedFile(io.BytesIO):
    """A file in memory that can no longer be read once its reader has used up its time.

    Pillow reads as it decodes. Processor time of the thread counts: a busy machine makes no image suspicious.

    Args:
        content: the file.
        seconds: how much processor time its reader may take, from now on.
        reads: how many times it may be read from.
    """

    def __init__(self, content: bytes, seconds: float, reads: float = math.inf) -> None:
        super().__init__(content)
        self._until = time.thread_time() + seconds
        self._reads_left = reads

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does.

        Raises:
            DecodingTooLongError: the time is up.
            TooManyPiecesError: it was read from too often.
        """
        self._reads_left -= 1
        if self._reads_left < 0:
            raise TooManyPiecesError
        if time.thread_time() > self._until:
            raise DecodingTooLongError
        return super().read(size)


def most_reads(content: bytes) -> float:
    """Return in how many pieces an honest file of these bytes is read at most.

    Reading the next piece is Python's work, for which every other thread has to wait: eight threads that read files of millions
    of tiny pieces made rounds take twelve times as long. A GIF consists of blocks of 255 bytes, read in two pieces each; what is
    decoded in a process of its own keeps no thread waiting.
    """
    for start, bytes_a_read in READ_HERE.items():
        if content.startswith(start):
            return FEW_READS + len(content) / bytes_a_read
    return math.inf


def scans(content: bytes) -> int:
    """Count the scans of a JPEG file, those of embedded images included; pixels never resemble the start of one."""
    return content.count(_START_OF_SCAN)


def decoding_bytes(image: Image.Image, content: bytes, pixels_of_file: int, *, shrunk: bool) -> int:
    """Estimate the memory that decoding takes, the resulting RGB image included, in bytes.

    Args:
        image: opened and, where its format can, drafted; not loaded.
        content: its file.
        pixels_of_file: how many there were before it was drafted.
        shrunk: whether the RGB image is made much smaller, tile by tile.
    """
    pixels = image.width * image.height
    stored = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    total = pixels * stored
    if image.format in ("JPEG", "MPO") and any(marker in content for marker in _PROGRESSIVE):
        # All coefficients are kept, two bytes each, until the last scan: of the picture before it was drafted.
        total += pixels_of_file * 2 * len(image.getbands())
    if image.format in _CANVASES:
        total += pixels * 4 * _CANVASES[image.format]
    if getattr(image, "is_animated", False):
        total += pixels * 4
    if not shrunk and image.mode != "RGB":
        total += pixels * 4
    return total
