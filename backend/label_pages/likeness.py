"""Compare every crop of a pool with one of them, or with words: the way to the first examples of a rare class, and to the others."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from everylabel.backend.store.task_rows import CropRows

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.label_pages.sketches import Sketches
    from everylabel.backend.store import Store
    from everylabel.backend.store.pool_files import PoolFiles
    from everylabel.backend.store.round_snapshot import RoundSnapshot

KEPT = 8
"""Comparisons that are kept for the pages that follow: 12 MB each at a million crops."""

NONE_YET = (
    "No crop is embedded yet, so that none can be found by words. Try again in a moment; if it stays so, "
    "`everylabel doctor` says why."
)


class NotComparableError(RuntimeError):
    """A crop, or words, cannot be compared with the others; the message says why and the way out."""


@dataclass(frozen=True)
class SimilarCrops:
    """The crops of a pool, and how similar each is to one of them, or to words."""

    tasks: NDArray[Any]
    """(n,) int64 by row of the embedding file: the task whose crop the row is, 0 where it is none's."""
    similarity: NDArray[Any]
    """(n,) float32: the higher, the more similar. Cosines from -1 to 1, but for what only a sketch has compared."""


class Likeness:
    """Compares the crops of projects. Safe to share between threads.

    Args:
        store: Knows the row of each crop.
        pool_files: The newest round's list of crops, which is read faster than the store's.
        embeddings: The embeddings of each project.
        sketches: Sketches of large pools.
    """

    def __init__(
        self, store: Store, pool_files: PoolFiles, embeddings: Embeddings, sketches: Sketches
    ) -> None:
        self._store = store
        self._sketches = sketches
        self._pool_files = pool_files
        self._embeddings = embeddings
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], SimilarCrops] = OrderedDict()

    def prepare(self, project_id: int) -> None:
        """Have what makes comparisons fast made in the background, for somebody who may soon ask for one."""
        self._sketches.prepare(project_id)

    def to(self, project_id: int, task_id: int) -> SimilarCrops:
        """Return how similar every crop of a project is to one of them.

        Raises:
            NotComparableError: The task is gone, its crop cannot be read, or it is not embedded yet.
        """
        row = self._row(project_id, task_id)
        pool = self._embeddings.read(project_id)
        if row >= len(pool):
            raise NotComparableError(_not_yet(task_id))
        signature = self._embeddings.encoder(project_id).signature
        snapshot = self._pool_files.snapshot(project_id)
        number = None if snapshot is None else snapshot.number
        key = (project_id, task_id, row, len(pool), signature, number)
        with self._lock:  # one comparison at a time: it takes every core
            if (known := self._remembered(key)) is not None:
                return known
            same = snapshot is not None and row < len(snapshot.tasks) and snapshot.tasks[row] == task_id
            tasks = self._tasks_at(project_id, pool, snapshot if same else None, signature)
            return self._keep(key, self._compare(project_id, tasks, row, pool))

    def reads_words(self, project_id: int) -> bool:
        """Return whether a project's encoder has a text tower, as far as that is known: nobody waits for it to be loaded."""
        return self._embeddings.has_text_tower(project_id)

    def to_words(self, project_id: int, words: str) -> SimilarCrops:
        """Return how similar every crop of a project is to words that somebody has typed; nothing writes them down.

        Raises:
            NotComparableError: There are no words, no crop is embedded yet, or the project's encoder cannot read words.
        """
        typed = " ".join(words.split())
        if not typed:
            raise NotComparableError("Type what the crops show, such as: a rusty bolt.")
        try:
            encoder = self._embeddings.encoder(project_id)
            pool = self._embeddings.read(project_id)
            if not len(pool):
                raise NotComparableError(NONE_YET)
            snapshot = self._pool_files.snapshot(project_id)
            number = None if snapshot is None else snapshot.number
            key = (project_id, typed, len(pool), encoder.signature, number)
            with self._lock:
                known = self._remembered(key)
            if known is not None:
                return known
            # Outside the lock: it may be the first, and load its tokenizer.
            row = encoder.encode_words([typed])[0]
        except (ValueError, FloatingPointError) as error:
            raise NotComparableError(str(error)) from error
        with self._lock:
            return self._remembered(key) or self._keep(
                key, self._compare_words(project_id, row, pool, snapshot, encoder.signature)
            )

    def _remembered(self, key: tuple[object, ...]) -> SimilarCrops | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def _keep(self, key: tuple[object, ...], found: SimilarCrops) -> SimilarCrops:
        self._kept[key] = found
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    def _row(self, project_id: int, task_id: int) -> int:
        found = self._store.tasks(project_id, [task_id])
        if not found:
            raise NotComparableError(
                f"Task {task_id} is not in this project any more. Choose other crops under Show."
            )
        if found[0].problem is not None:
            raise NotComparableError(f"The crop of task {task_id} cannot be read: {found[0].problem}")
        if found[0].embedding_row is None:
            raise NotComparableError(_not_yet(task_id))
        return found[0].embedding_row

    def _tasks_at(
        self, project_id: int, pool: NDArray[Any], snapshot: RoundSnapshot | None, signature: str
    ) -> NDArray[Any]:
        """Return the task of each row: a round's list, which is at hand, if it is of this encoder's rows."""
        if snapshot is not None and len(snapshot.tasks) <= len(pool):
            record = self._store.round(project_id, snapshot.number)
            # Rounds of earlier versions do not say whose rows they are of.
            if record is not None and record.encoder in ("", signature):
                return snapshot.tasks
        return CropRows(*self._store.embedding_rows(project_id), len(pool)).task_at

    def _compare(self, project_id: int, tasks: NDArray[Any], row: int, pool: NDArray[Any]) -> SimilarCrops:
        from everylabel.model.similarity import similarity_to  # noqa: PLC0415 - takes long to load

        sketch = self._sketches.of(project_id, pool)
        if sketch is None:
            space = self._embeddings.encoder(project_id).make_classifier().space
            similarity = similarity_to(pool, row, space)
        else:
            similarity = sketch.similarity_to(pool, row)
        return _paired(tasks, similarity)

    def _compare_words(
        self,
        project_id: int,
        row: NDArray[Any],
        pool: NDArray[Any],
        snapshot: RoundSnapshot | None,
        signature: str,
    ) -> SimilarCrops:
        from everylabel.model.similarity import similarity_to_row  # noqa: PLC0415 - takes long to load

        if snapshot is not None and self._store.known_rows(project_id) > len(snapshot.tasks):
            snapshot = None  # crops were embedded since the round
        tasks = self._tasks_at(project_id, pool, snapshot, signature)
        if not tasks.any():
            raise NotComparableError(NONE_YET)
        sketch = self._sketches.of(project_id, pool)
        return _paired(
            tasks, similarity_to_row(pool, row) if sketch is None else sketch.similarity_to_row(pool, row)
        )


def _paired(tasks: NDArray[Any], similarity: NDArray[Any]) -> SimilarCrops:
    """Pair what is known of each row, as far as both go."""
    n = min(len(tasks), len(similarity))
    return SimilarCrops(tasks[:n], similarity[:n])


def _not_yet(task_id: int) -> str:
    return (
        f"The crop of task {task_id} is not embedded yet, so that nothing can be compared with it. Try again in a moment; if "
        "it stays so, `everylabel doctor` says why."
    )
