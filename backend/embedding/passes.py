"""Embeds what is missing of a project's pool: whole in the foreground, or a slice at a time in the trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from filelock import Timeout

from everylabel.backend.embedding.crop_loader import Hosts
from everylabel.backend.embedding.embeddings import check_encoder
from everylabel.backend.embedding.pipeline import Embedded
from everylabel.backend.label_studio import label_config
from everylabel.backend.store import Task
from everylabel.backend.store.embeddings import TasksToEmbed

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.embedding.executor import Executor
    from everylabel.backend.progress import Progress
    from everylabel.backend.store import Store
    from everylabel.backend.store.files import EmbeddingFile, ProjectFiles

log = logging.getLogger(__name__)

WAITING_SHOWN_SECONDS = 0.5
"""How often a command that waits for another process says how far that has come."""


class PoolGoneError(RuntimeError):
    """Raised where a project was forgotten, or got another encoder, while its crops were embedded."""


@dataclass(frozen=True)
class Missing:
    """What is to be embedded of a project."""

    tasks: TasksToEmbed
    anew: bool
    """Every crop is to be embedded again: the encoder is another one, or the file has lost rows."""


class PoolEmbedding:
    """Embeds crops of projects.

    Args:
        encoder_name: The encoder that the settings name.
        store: Says which crops are missing.
        files: Returns a project's files.
        embeddings: The encoder, and the files that its rows lie in.
        executor: Embeds.
    """

    def __init__(
        self,
        encoder_name: str,
        store: Store,
        files: Callable[[int], ProjectFiles],
        embeddings: Embeddings,
        executor: Executor,
    ) -> None:
        self._encoder_name = encoder_name
        self._store = store
        self._files = files
        self._embeddings = embeddings
        self._executor = executor
        self._checked: set[int] = set()
        """Projects whose file this process has searched for invalid numbers."""

    def missing(self, project_id: int, task_ids: Sequence[int] | None = None) -> Missing | None:
        """Look up which crops (or which of `task_ids`) are not embedded yet; None where the project is unknown.

        Raises:
            LabelConfigError: the encoder cannot read what the labeling config shows.
        """
        if self._store.project(project_id) is None:
            return None
        encoder = self._embeddings.encoder()
        anew = False
        with self._files(project_id).embedding_lock():
            project = self._store.project(project_id)
            if project is None:
                return None
            file = self._embeddings.file(project_id)
            if project.encoder != encoder.signature:
                anew = bool(project.encoder)
                self._store.forget_embeddings(project_id, encoder.signature)
            elif self._store.embedded_until(project_id, len(file)) > len(file):
                anew = True
                log.error(
                    "project %s: %s has lost rows, so every crop is embedded anew", project_id, file.path
                )
                self._store.forget_embeddings(project_id, encoder.signature)
        if project_id not in self._checked:
            anew = self._forget_invalid(project_id, file) or anew
            self._checked.add(project_id)
        tasks = self._store.tasks_to_embed(project_id, task_ids)
        if len(tasks):
            check_encoder(label_config.parse(project.label_config), self._encoder_name)
        return Missing(tasks, anew)

    def _forget_invalid(self, project_id: int, file: EmbeddingFile) -> bool:
        """Have crops embedded anew whose row holds a number that is not finite; return whether there are any."""
        invalid = file.invalid_rows()
        if not invalid:
            return False
        with self._files(project_id).embedding_lock():
            rows = file.read()  # what a crash had left may be written over by now
            invalid = [row for row in invalid if not np.isfinite(rows[row]).all()]
            crops = self._store.forget_rows(project_id, invalid)
            file.blank(invalid)  # not before: killed in between, the next search finds them again
        log.error(
            "project %s: %s holds numbers that are not finite in %s rows; %s crops are embedded anew",
            project_id,
            file.path,
            len(invalid),
            crops,
        )
        return crops > 0

    def embed(
        self, project_id: int, task_ids: Sequence[int] | None = None, progress: Progress | None = None
    ) -> Embedded:
        """Embed every crop (or those of `task_ids`) that is not embedded yet.

        Where another process embeds this pool, it is waited for; not for the sake of a few `task_ids`.

        Raises:
            LabelConfigError: as `missing`.
            PoolGoneError: the project was forgotten meanwhile.
        """
        if self._store.project(project_id) is None:
            return Embedded(0, 0)
        with ExitStack() as held:
            if task_ids is None:
                held.enter_context(self._pool(project_id, progress))
            missing = self.missing(project_id, task_ids)
            if missing is None or not len(missing.tasks):
                return Embedded(0, 0)
            report = (
                None if progress is None else (lambda done, total: progress("Embedding crops", done, total))
            )
            return self.embed_some(project_id, missing.tasks, report)

    def embed_some(
        self,
        project_id: int,
        tasks: Collection[Task],
        progress: Callable[[int, int], None] | None = None,
        hosts: Hosts | None = None,
    ) -> Embedded:
        """Embed the crops of tasks that `missing` has given, or some of them; as `CropEmbedder.embed`.

        Raises:
            PoolGoneError: the project was forgotten meanwhile.
        """
        self._check_encoder(project_id)  # opening its file would make its folder anew
        file = self._embeddings.file(project_id)
        return self._executor.embed(
            project_id, tasks, file, progress, appending=lambda: self._appending(project_id), hosts=hosts
        )

    @contextmanager
    def _appending(self, project_id: int) -> Iterator[None]:
        """Hold the embedding lock of a project that is still there and still wants this encoder."""
        self._check_encoder(project_id)  # entering the lock would make the folder anew
        with self._files(project_id).embedding_lock():
            self._check_encoder(project_id)
            yield

    def check(self, project_id: int) -> None:
        """Raise PoolGoneError where a project is not known, or no longer."""
        if self._store.project(project_id) is None:
            raise PoolGoneError(f"Project {project_id} was forgotten.")

    def _check_encoder(self, project_id: int) -> None:
        project = self._store.project(project_id)
        if project is None or project.encoder != self._embeddings.encoder().signature:
            raise PoolGoneError(f"Project {project_id} was forgotten, or embedded with another encoder.")

    @contextmanager
    def _pool(self, project_id: int, progress: Progress | None) -> Iterator[None]:
        """Hold the pool lock; while another process has it, tell how far that one has come."""
        files = self._files(project_id)
        with ExitStack() as held:
            while True:
                with suppress(Timeout):
                    held.enter_context(files.pool_lock(timeout=WAITING_SHOWN_SECONDS))
                    break
                if progress is not None:
                    counts = self._store.count_tasks(project_id)
                    done, total = counts["embedded"] + counts["unreadable"], sum(counts.values())
                    progress("Waiting for the backend, which embeds crops", done, total)
            yield
