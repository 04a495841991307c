"""Read the crops of tasks for an encoder: several threads fetch, decode and cut them, in the order of the tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everylabel.backend.embedding.cache import Cache
from everylabel.backend.images import cut as cutting
from everylabel.backend.images.decoding_limits import decoding_memory
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.crop_errors import ImageError, one_crop_only
from everylabel.backend.label_studio.label_config import text_of
from everylabel.backend.store import Task

if TYPE_CHECKING:
    from everylabel.model.encoders import Encoder

GIVEN_UP_AFTER = 64
"""When a host has failed to deliver this many crops in a row, it is skipped for the rest of the pass."""
PICTURE_BYTES = 128_000_000
"""The memory for decoded pictures that several crops are parts of."""
CROPS_KEPT = 64
"""How many prepared crops are cached, for nearby tasks with the same address."""
LONG_ADDRESS = 4096
PIECE = 8
"""The most crops that a thread reads in a row."""


@dataclass(frozen=True)
class Prepared:
    """A crop as an encoder takes it; crops with the same `digest` have the same pixels, so the same row."""

    pixels: NDArray[Any]
    digest: bytes


@dataclass(frozen=True)
class ReadCrop:
    """The crop of one task: its pixels as the encoder takes them, or the reason why there are none."""

    task: Task
    prepared: Prepared | ImageError


class CropReader:
    """A reader of the crops of tasks, with several threads.

    Crops of a host that was given up are left out, to be tried another time; `failure` then says why.

    Args:
        reader: Fetches and decodes pictures.
        encoder: Prepares crops.
        threads: How many crops are fetched at a time.
        hosts: The hosts that did not answer in an earlier pass.
    """

    def __init__(
        self, reader: ImageReader, encoder: Encoder, threads: int, hosts: Hosts | None = None
    ) -> None:
        self._reader = reader
        self._encoder = encoder
        self._threads = threads
        self._pictures: Cache[Image.Image | ImageError] = Cache(PICTURE_BYTES, _picture_bytes)
        self._crops: Cache[Prepared | ImageError] = Cache(CROPS_KEPT, lambda _: 1)
        self._hosts = hosts or Hosts()

    @property
    def failure(self) -> ImageError | None:
        """Return the reason why crops were left out; None if each was tried."""
        return self._hosts.failure

    def read(self, tasks: Iterable[Task], ahead: int) -> Generator[ReadCrop, None, None]:
        """Yield the crops in the order of their tasks, while threads read about `ahead` more.

        Args:
            tasks: The tasks; consumed once, a few at a time.
            ahead: How many crops to read in advance.

        Yields:
            Each crop, or the reason why it cannot be read; none for a host that was given up.
        """
        piece = max(1, min(PIECE, ahead // (2 * self._threads)))
        waiting: deque[Future[list[ReadCrop]]] = deque()
        remaining = iter(tasks)
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="images")
        try:
            while some := list(islice(remaining, piece)):
                waiting.append(pool.submit(self._read_all, some))
                if len(waiting) * piece > ahead:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read_all(self, tasks: Iterable[Task]) -> list[ReadCrop]:
        found = []
        for task in tasks:
            host = _host(task.image_url or "")
            if self._hosts.is_given_up(host):
                continue
            read = ReadCrop(task, self._read(task))
            self._hosts.answered(host, read.prepared)
            found.append(read)
        return found

    def _read(self, task: Task) -> Prepared | ImageError:
        try:
            # A huge picture takes up memory until its crop is prepared.
            with one_crop_only("The crop"), decoding_memory.scope():
                return self._prepared(task)
        except ImageError as error:
            return error.without_traceback()

    def _prepared(self, task: Task) -> Prepared | ImageError:
        address = task.image_url or ""
        if self._encoder.reads == "text":
            return _with_digest(self._encoder.prepare_text(text_of(address) or ""))
        return self._crops.get(_key(address), lambda: self._cut(address, task.id))

    def _cut(self, address: str, task_id: int) -> Prepared | ImageError:
        picture_address, box = crop_shapes.split(address)
        if box is None:
            picture = self._picture(address, task_id, self._encoder.enough_pixels)
        else:
            picture = self._pictures.get(
                _key(picture_address), lambda: self._picture(picture_address, task_id)
            )
        if isinstance(picture, ImageError):
            return picture
        try:
            return _with_digest(self._encoder.prepare(cutting.cut(picture, box)))
        except ImageError as error:
            return error.without_traceback()

    def _picture(self, address: str, task_id: int, enough: int | None = None) -> Image.Image | ImageError:
        try:
            # A box is cut out of the full picture: rounded to fewer pixels, it would be elsewhere.
            return self._reader.read(address, task_id, **({} if enough is None else {"enough": enough}))
        except ImageError as error:
            return error.without_traceback()


class Hosts:
    """The hosts that do not answer, for one pass or for several that share them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failures: dict[str, int] = {}
        self.failure: ImageError | None = None

    def is_given_up(self, host: str) -> bool:
        """Return whether a host has been given up."""
        return self._failures.get(host, 0) >= GIVEN_UP_AFTER

    def answered(self, host: str, outcome: object) -> None:
        """Note the outcome of reading a crop from a host."""
        with self._lock:
            if not isinstance(outcome, ImageError) or not outcome.retry:
                self._failures.pop(host, None)
                return
            self._failures[host] = self._failures.get(host, 0) + 1
            if self._failures[host] == GIVEN_UP_AFTER:
                self.failure = outcome


def _with_digest(pixels: NDArray[Any]) -> Prepared:
    return Prepared(pixels, blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest())


def _key(address: str) -> str:
    """Return what a cache knows an address by: a picture that stands in the address itself is not kept twice."""
    if len(address) <= LONG_ADDRESS:
        return address
    return blake2b(address.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _host(address: str) -> str:
    """Return the host that an address belongs to; the name without a host stands for Label Studio."""
    if address[:5].lower() == "data:":
        return "data:"
    try:
        parts = urlsplit(address)
    except ValueError:
        return address[:200]
    return f"{parts.scheme}//{parts.netloc}"


def _picture_bytes(found: Image.Image | ImageError) -> int:
    return 10_000 if isinstance(found, ImageError) else 4 * found.width * found.height
