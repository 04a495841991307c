"""Read the crops of tasks for an encoder: several threads fetch, decode and cut them, in the order of the tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING
from uuid import uuid4

from everylabel.backend.embedding.hosts import Hosts, host_of
from everylabel.backend.embedding.prepared import Prepared
from everylabel.backend.embedding.reading_connection import AT_A_TIME
from everylabel.backend.embedding.reading_process import ReadingProcesses
from everylabel.backend.embedding.single_crops import SingleCrops
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.store import Task

if TYPE_CHECKING:
    from everylabel.model.encoders import Encoder

PIECE = 8
"""The most crops that a thread reads in a row."""


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
        processes: Other processes that read crops; this one reads what they cannot.
    """

    def __init__(
        self,
        reader: ImageReader,
        encoder: Encoder,
        threads: int,
        hosts: Hosts | None = None,
        processes: ReadingProcesses | None = None,
    ) -> None:
        self._reader = reader
        self._encoder = encoder
        self._threads = threads
        self._hosts = hosts or Hosts()
        self._crops = SingleCrops(reader, encoder)
        self._processes = processes
        self._name = uuid4().hex

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
        most = PIECE if self._processes is None else AT_A_TIME
        piece = max(1, min(most, ahead // (2 * self._threads)))
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

    def _read_all(self, tasks: Sequence[Task]) -> list[ReadCrop]:
        elsewhere = self._read_elsewhere(tasks)
        found = []
        for i, task in enumerate(tasks):
            host = host_of(task.image_url or "")
            if self._hosts.is_given_up(host):
                continue
            prepared = elsewhere.get(i) or self._crops.read(task)
            self._hosts.answered(host, prepared)
            found.append(ReadCrop(task, prepared))
        return found

    def _read_elsewhere(self, tasks: Sequence[Task]) -> dict[int, Prepared | ImageError]:
        """Have other processes read crops; return what they could, by its place among the tasks."""
        if self._processes is None:
            return {}
        asked = [i for i, task in enumerate(tasks) if self._is_read_elsewhere(task.image_url or "")]
        read = self._processes.read(
            [tasks[i] for i in asked], self._reader, self._encoder.crop_size, self._name
        )
        return {i: one for i, one in zip(asked, read, strict=True) if one is not None}

    def _is_read_elsewhere(self, address: str) -> bool:
        """Return whether a crop is a whole picture: of parts, this process decodes the picture once for all of them."""
        return crop_shapes.split(address)[1] is None and not self._hosts.is_given_up(host_of(address))
