"""Where the heavy part of a project's work is done: embedding its crops and scoring its pool."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from everylabel.backend.embedding.crop_loader import Hosts
from everylabel.backend.embedding.pipeline import CropEmbedder, Embedded

if TYPE_CHECKING:
    from everylabel.backend.images.reader import ImageReader
    from everylabel.backend.store import Store, Task
    from everylabel.backend.store.files import EmbeddingFile
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.encoders import Encoder
    from everylabel.model.pool import Rows

Scorer = Callable[["Classifier", "Rows"], "NDArray[Any]"]
"""Gives (n, k) probabilities of a pool, to the bit what the classifier's own `predict_proba` gives."""


class ExecutorError(RuntimeError):
    """An executor cannot be had: a package is missing, or nothing answers; the message says the way out."""


class Executor(Protocol):
    """Embeds crops and scores pools. Two executors give the same rows in the same order, and so the same rounds."""

    def embed(
        self,
        project_id: int,
        tasks: Collection[Task],
        file: EmbeddingFile,
        progress: Callable[[int, int], None] | None = None,
        *,
        appending: Callable[[], AbstractContextManager[Any]] = nullcontext,
        hosts: Hosts | None = None,
    ) -> Embedded:
        """Embed the crops of `tasks` in their order; as `CropEmbedder.embed`."""

    def scorer(self, file: EmbeddingFile) -> Scorer:
        """Return what scores the pool that lies in this file."""


class LocalExecutor:
    """Embed and score in this process.

    Args:
        store: Keeps which row is whose.
        reader: Fetches crops.
        encoder: Returns the encoder.
        threads: Crops that are fetched at a time.
    """

    def __init__(
        self, store: Store, reader: ImageReader, encoder: Callable[[], Encoder], threads: int
    ) -> None:
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
        *,
        appending: Callable[[], AbstractContextManager[Any]] = nullcontext,
        hosts: Hosts | None = None,
    ) -> Embedded:
        """Embed the crops of `tasks` in their order; as `CropEmbedder.embed`."""
        embedder = CropEmbedder(self._store, self._reader, self._encoder(), self._threads, appending)
        return embedder.embed(project_id, tasks, file, progress, hosts)

    def scorer(self, file: EmbeddingFile) -> Scorer:
        """Return what scores the pool that lies in this file."""
        del file
        return lambda classifier, pool: classifier.predict_proba(pool)
