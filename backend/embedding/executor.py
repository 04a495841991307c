"""The interface of what embeds crops and scores pools, and the executor that does it in this process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from everylabel.backend.embedding.hosts import Hosts
from everylabel.backend.embedding.pipeline import CropEmbedder, Embedded
from everylabel.backend.embedding.reading_process import processes_for

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Target
    from everylabel.backend.images.reader import ImageReader
    from everylabel.backend.store import Task
    from everylabel.backend.store.files import EmbeddingFile
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.pool import Rows

Scorer = Callable[["Classifier", "Rows"], "NDArray[Any]"]
"""Returns the (n, k) probabilities of a pool, bit for bit those of the classifier's own `predict_proba`."""


class ExecutorError(RuntimeError):
    """Raised if an executor cannot be used: a package is missing, or nothing answers; the message says the way out."""


class Executor(Protocol):
    """The interface of an executor. All executors give the same rows in the same order, and so the same rounds."""

    def embed(
        self,
        project_id: int,
        tasks: Collection[Task],
        target: Target,
        progress: Callable[[int, int], None] | None = None,
        *,
        appending: Callable[[], AbstractContextManager[Any]] = nullcontext,
        hosts: Hosts | None = None,
    ) -> Embedded:
        """Embed the crops of `tasks` in their order into `target`, as `CropEmbedder.embed` does."""

    def scorer(self, file: EmbeddingFile) -> Scorer:
        """Return a function that scores the pool in this embedding file."""


class LocalExecutor:
    """An executor that embeds and scores in this process.

    Args:
        reader: Fetches pictures.
        threads: How many crops are fetched at a time.
    """

    def __init__(self, reader: ImageReader, threads: int) -> None:
        self._reader = reader
        self._threads = threads

    def embed(
        self,
        project_id: int,
        tasks: Collection[Task],
        target: Target,
        progress: Callable[[int, int], None] | None = None,
        *,
        appending: Callable[[], AbstractContextManager[Any]] = nullcontext,
        hosts: Hosts | None = None,
    ) -> Embedded:
        """Embed the crops of `tasks` in their order into `target`, as `CropEmbedder.embed` does."""
        encoder = target.encoder
        embedder = CropEmbedder(
            target.rows,
            self._reader,
            encoder,
            self._threads,
            appending,
            processes_for(encoder, self._threads),
        )
        return embedder.embed(project_id, tasks, target.file, progress, hosts)

    def scorer(self, file: EmbeddingFile) -> Scorer:
        """Return a function that scores the pool in this embedding file."""
        del file
        return lambda classifier, pool: classifier.predict_proba(pool)
