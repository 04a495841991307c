"""Embed a project's crops in a pipeline: each is fetched, decoded and encoded once.

Several threads read crops, one makes batches, one encodes, and the caller's thread appends rows and points the store at
them. Each stage is a bounded number of crops ahead of the next, so memory does not grow with the pool.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.embedding.crop_loader import CropReader, ReadCrop
from everylabel.backend.embedding.digest_index import KnownRows
from everylabel.backend.embedding.encoding import Batch, Encoding
from everylabel.backend.embedding.hosts import Hosts
from everylabel.backend.embedding.prefetch import Prefetch
from everylabel.backend.embedding.prepared import Prepared
from everylabel.backend.embedding.reading_process import WORTH_IT, ReadingProcesses
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.store import Task
from everylabel.backend.store.embeddings import RowStore
from everylabel.backend.store.files import EmbeddingFile

if TYPE_CHECKING:
    from everylabel.model.encoders import Encoder

log = logging.getLogger(__name__)

DIGESTS_TOGETHER = 32
"""How many digests of crops are looked up in the store at a time, or as many as an encoder takes if that is more."""
TOGETHER_SECONDS = 0.1
"""The longest that crops wait for others to be looked up with."""
COMMIT_CROPS = 256
COMMIT_SECONDS = 2.0
"""Rows are written when this many are ready, or this long after the last time: the most that a crash can cost."""
SMALLEST_BATCH = 32
"""The smallest number of crops passed to the encoder at a time, so that passing them costs little."""
BATCHES_AHEAD = 2
"""How many batches are ready while one is encoded, and how many encoded ones wait to be written."""

LOGGED = 5
"""The most unreadable crops of a pass to log one by one: if a whole storage is unreachable, that is every crop."""


@dataclass(frozen=True)
class Embedded:
    """The result of a pass over a project's crops."""

    embedded: int
    unreadable: int
    failure: ImageError | None = None
    """The reason why crops were left for another pass: a host, Label Studio or the network does not answer."""


class CropEmbedder:
    """A pipeline that reads crops with several threads and appends their embeddings to the project's file.

    Each task gets a row of its own. Crops with the same pixels are encoded once, and their row is copied.

    Args:
        store: Records rows and problems.
        reader: Fetches pictures.
        encoder: Turns crops into rows.
        threads: How many crops are fetched at a time.
        appending: Returns a lock that is held while rows are appended and recorded, and not while crops are fetched or
            encoded, so that several processes may embed one project. A crop that another process has embedded
            meanwhile is skipped.
        processes: Read the crops of a large pool; without them, this process reads all.
    """

    def __init__(
        self,
        store: RowStore,
        reader: ImageReader,
        encoder: Encoder,
        threads: int,
        appending: Callable[[], AbstractContextManager[Any]] = nullcontext,
        processes: ReadingProcesses | None = None,
    ) -> None:
        self._appending = appending
        self._processes = processes
        self._store = store
        self._reader = reader
        self._encoder = encoder
        self._threads = threads

    def embed(
        self,
        project_id: int,
        tasks: Collection[Task],
        file: EmbeddingFile,
        progress: Callable[[int, int], None] | None = None,
        hosts: Hosts | None = None,
    ) -> Embedded:
        """Embed the crops of `tasks`; a crop that cannot be read is recorded with the reason and left out.

        If a host does not answer, only its own crops are left for another pass.

        Args:
            project_id: The project, for the store.
            tasks: The tasks without an embedding; iterated once, a few at a time.
            file: The file that the rows are appended to.
            progress: Called with (crops done, crops in all) whenever some are on disk.
            hosts: The hosts that did not answer in an earlier pass.

        Returns:
            How many crops were embedded, and how many cannot be read.
        """
        processes = self._processes if len(tasks) >= WORTH_IT else None
        with processes or nullcontext():
            crops = CropReader(self._reader, self._encoder, self._threads, hosts, processes)
            return self._embed(project_id, tasks, file, progress, crops)

    def _embed(
        self,
        project_id: int,
        tasks: Collection[Task],
        file: EmbeddingFile,
        progress: Callable[[int, int], None] | None,
        crops: CropReader,
    ) -> Embedded:
        size, total = self._batch_size(), len(tasks)
        rows = KnownRows(self._store, project_id, file)
        at_a_time = self._encoder.batches_at_a_time
        read = crops.read(tasks, min((at_a_time + 1) * size + DIGESTS_TOGETHER, total))
        batches = Prefetch(_batches(read, rows, self._batch_size), BATCHES_AHEAD, "batches")
        encoded = Prefetch(Encoding(batches, self._encoder), BATCHES_AHEAD, "encoder")
        writer = _Writer(self._store, project_id, file, rows, self._appending)
        try:
            for batch, new_rows in encoded:
                writer.add(batch, new_rows)
                if writer.is_due(max(COMMIT_CROPS, 2 * size)):
                    writer.write()
                    if progress is not None:
                        progress(writer.done, total)
            writer.write()
            if progress is not None:
                progress(writer.done, total)
            if writer.unreadable > LOGGED:
                log.warning("project %s: %s crops in all cannot be read", project_id, writer.unreadable)
        finally:
            batches.stop()
            encoded.close()
            batches.close()
        return Embedded(writer.embedded, writer.unreadable, crops.failure or writer.failure)

    def _batch_size(self) -> int:
        return max(self._encoder.batch_size, SMALLEST_BATCH)


def _batches(
    read: Generator[ReadCrop, None, None], rows: KnownRows, size: Callable[[], int]
) -> Iterator[Batch]:
    """Yield batches with as many new crops as the encoder takes at a time."""
    with closing(read):
        batch, begun = Batch(), time.monotonic()
        while some := _next_crops(read, max(DIGESTS_TOGETHER, size())):
            prepared = [crop.prepared for crop in some]
            rows.look_up(one.digest for one in prepared if isinstance(one, Prepared))
            for crop in some:
                if isinstance(crop.prepared, ImageError):
                    batch.problems[crop.task.id] = crop.prepared
                    continue
                digest = crop.prepared.digest
                batch.tasks.append((crop.task, digest))
                if rows.expect(digest):
                    batch.places[digest] = len(batch.crops)
                    batch.crops.append(crop.prepared.pixels)
                if len(batch.crops) >= size() or len(batch) >= COMMIT_CROPS + size():
                    yield batch
                    batch, begun = Batch(), time.monotonic()
            if len(batch) and time.monotonic() - begun >= COMMIT_SECONDS:  # they come slowly
                yield batch
                batch, begun = Batch(), time.monotonic()
        if len(batch):
            yield batch


def _next_crops(read: Iterator[ReadCrop], most: int) -> list[ReadCrop]:
    """Take the next crops, fewer than `most` where they come slowly."""
    until = time.monotonic() + TOGETHER_SECONDS
    found: list[ReadCrop] = []
    for crop in read:
        found.append(crop)
        if len(found) >= most or time.monotonic() > until:
            break
    return found


class _Writer:
    """A writer that appends rows to the file and then records them: the store never points at a row not on disk."""

    def __init__(
        self,
        store: RowStore,
        project_id: int,
        file: EmbeddingFile,
        rows: KnownRows,
        appending: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._appending = appending
        self._store = store
        self._project_id = project_id
        self._file = file
        self._rows = rows
        self._waiting: list[tuple[Batch, NDArray[Any] | None]] = []
        self._written_at = time.monotonic()
        self.embedded = self.unreadable = self.by_others = 0
        self._failed: dict[bytes, ImageError] = {}
        """Pixels that the encoder fails on; a later batch may have a crop with the same pixels."""
        self._only_failures: ImageError | None = None
        self._another_try_helps = True

    @property
    def failure(self) -> ImageError | None:
        """Return the reason why nothing was embedded, if trying again may help."""
        return self._only_failures if self._another_try_helps and not self.embedded else None

    @property
    def done(self) -> int:
        """Return how many crops are done."""
        return self.embedded + self.unreadable + self.by_others

    def add(self, batch: Batch, rows: NDArray[Any] | None) -> None:
        self._waiting.append((batch, rows))

    def is_due(self, crops: int) -> bool:
        late = time.monotonic() - self._written_at >= COMMIT_SECONDS
        return late or sum(len(batch) for batch, _ in self._waiting) >= crops

    def write(self) -> None:
        self._written_at = time.monotonic()
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        with self._appending():
            self._write(waiting)
        for batch, _ in waiting:
            self._rows.forget(batch.failed)

    def _write(self, waiting: list[tuple[Batch, NDArray[Any] | None]]) -> None:
        for batch, _ in waiting:
            self._failed |= batch.failed
        problems = {id_: why for batch, _ in waiting for id_, why in batch.problems.items()}
        problems |= {
            task.id: self._failed[digest]
            for batch, _ in waiting
            for task, digest in batch.tasks
            if digest in self._failed
        }
        asked = {task.id for batch, _ in waiting for task, _ in batch.tasks} | problems.keys()
        still_open = self._store.still_open(self._project_id, asked)
        self.by_others += len(asked) - len(still_open)
        problems = {id_: why for id_, why in problems.items() if id_ in still_open}
        self._write_rows(waiting, still_open)
        self._store.save_problems(self._project_id, {id_: str(why) for id_, why in problems.items()})
        for id_, why in problems.items():
            self.unreadable += 1
            if self.unreadable <= LOGGED:
                log.warning("project %s, task %s: %s", self._project_id, id_, why)
            self._only_failures = self._only_failures or why
            self._another_try_helps = self._another_try_helps and why.retry

    def _write_rows(
        self, waiting: list[tuple[Batch, NDArray[Any] | None]], still_open: Collection[int]
    ) -> None:
        """Append a row for each task that is `still_open`, and for pixels whose row a later crop may copy."""
        of_others = {d for batch, _ in waiting for task, d in batch.tasks if task.id not in still_open}
        written_by_others = self._rows.take_over(of_others)

        def is_written(task: Task, digest: bytes) -> bool:
            return digest not in self._failed and (task.id in still_open or digest not in written_by_others)

        tasks = [found for batch, _ in waiting for found in batch.tasks if is_written(*found)]
        if not tasks:
            return
        rows = np.empty((len(tasks), self._file.dim), dtype=self._file.dtype)
        here: dict[bytes, NDArray[Any]] = {}
        stored = self._file.read()
        done = 0
        for batch, new in waiting:
            if new is not None:
                here |= {digest: new[place] for digest, place in batch.places.items()}
            for task, digest in batch.tasks:
                if not is_written(task, digest):
                    continue
                rows[done] = here[digest] if digest in here else stored[self._rows.row(digest)]
                done += 1
        first = self._rows.append(rows, [digest for _, digest in tasks])
        self._store.save_embedded(
            self._project_id,
            {task.id: first + i for i, (task, _) in enumerate(tasks)},
            digests={task.id: digest for task, digest in tasks},
            read_from={task.id: task.image_url for task, _ in tasks},
        )
        self.embedded += sum(task.id in still_open for task, _ in tasks)
