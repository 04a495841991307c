"""Where the heavy part of a project's work is done: embedding its crops and scoring its pool."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from everylabel.backend.embedding.crop_loader import Hosts
from everylabel.backend.embedding.pipeline import CropEmbedder, Embedded

if TYPE_CHECKING:
    from everylabel.backend.services import Services
    from everylabel.backend.store import Task
    from everylabel.backend.store.files import EmbeddingFile
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.pool import Rows

Scorer = Callable[["Classifier", "Rows"], "NDArray[Any]"]
"""Gives (n, k) probabilities of a pool, to the bit what the classifier's own `predict_proba` gives."""


class EngineError(RuntimeError):
    """An engine cannot be had: a package is missing, or nothing answers; the message says the way out."""


class Engine(Protocol):
    """Two engines give the same rows in the same order, and so the same rounds."""

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
        """What scores the pool that lies in this file."""


class LocalEngine:
    """Everything in this process.

    Args:
        services: the parts of this backend.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

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
        services = self._services
        threads = services.settings.download_threads
        embedder = CropEmbedder(services.store, services.reader, services.encoder(), threads, appending)
        return embedder.embed(project_id, tasks, file, progress, hosts)

    def scorer(self, file: EmbeddingFile) -> Scorer:
        """What scores the pool that lies in this file."""
        del file
        return lambda classifier, pool: classifier.predict_proba(pool)
