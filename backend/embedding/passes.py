"""Embed the missing crops of a project's pool: all in the foreground, or a slice at a time in the trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from filelock import Timeout

from everylabel.backend.embedding.embeddings import check_encoder
from everylabel.backend.embedding.hosts import Hosts
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
"""How often a command that waits for another process reports the progress of that one."""


class PoolGoneError(RuntimeError):
    """Raised if a project was forgotten, or got another encoder, while its crops were embedded."""


@dataclass(frozen=True)
class Missing:
    """The crops of a project that have to be embedded."""

    tasks: TasksToEmbed
    anew: bool
    """True if every crop has to be embedded again: the encoder has changed, or the file has lost rows."""


class PoolEmbedding:
    """The embedding of the crops of projects.

    Args:
        encoder_name: The encoder that the settings name.
        store: Knows which crops are missing.
        files: Returns a project's files.
        embeddings: The encoder, and the files of its rows.
        executor: Embeds crops.
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
        """Find the crops that are not embedded yet; if the encoder has changed, those are all crops.

        Args:
            project_id: The project, known a moment ago: entering its lock creates its folder.
            task_ids: The tasks to consider; all if None.

        Returns:
            The missing crops; None if the project was forgotten meanwhile.

        Raises:
            LabelConfigError: The encoder cannot read what the labeling config shows.
        """
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
        """Embed every crop that is not embedded yet.

        If another process embeds this pool, wait for it first, but not for the sake of a few `task_ids`.

        Args:
            project_id: The project.
            task_ids: The tasks to consider; all if None.
            progress: Called with (what, done, total).

        Returns:
            How many crops were embedded, and how many cannot be read.

        Raises:
            LabelConfigError: As for `missing`.
            PoolGoneError: The project was forgotten meanwhile.
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
        """Embed some or all of the crops that `missing` has returned.

        Args:
            project_id: The project.
            tasks: The tasks; iterated once.
            progress: Called with (crops done, crops in all).
            hosts: The hosts that did not answer in an earlier pass.

        Returns:
            How many crops were embedded, and how many cannot be read.

        Raises:
            PoolGoneError: The project was forgotten meanwhile.
        """
        self._check_encoder(project_id)  # opening its file would create its folder again
        file = self._embeddings.file(project_id)
        return self._executor.embed(
            project_id, tasks, file, progress, appending=lambda: self._appending(project_id), hosts=hosts
        )

    @contextmanager
    def _appending(self, project_id: int) -> Iterator[None]:
        """Hold the embedding lock of a project, if the project still exists and uses this encoder."""
        self._check_encoder(project_id)  # entering the lock would create the folder again
        with self._files(project_id).embedding_lock():
            self._check_encoder(project_id)
            yield

    def check(self, project_id: int) -> None:
        """Check that a project is known.

        Raises:
            PoolGoneError: It is not, or no longer.
        """
        if self._store.project(project_id) is None:
            raise PoolGoneError(f"Project {project_id} was forgotten.")

    def _check_encoder(self, project_id: int) -> None:
        project = self._store.project(project_id)
        if project is None or project.encoder != self._embeddings.encoder().signature:
            raise PoolGoneError(f"Project {project_id} was forgotten, or embedded with another encoder.")

    @contextmanager
    def _pool(self, project_id: int, progress: Progress | None) -> Iterator[None]:
        """Hold the pool lock, and report the progress of another process while that holds it."""
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
