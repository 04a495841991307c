"""Embed the missing crops of a project's pool: all in the foreground, or a slice at a time in the trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
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
        store: Knows which crops are missing.
        files: Returns a project's files.
        embeddings: The encoder of each project, and the files of its rows.
        executor: Embeds crops.
    """

    def __init__(
        self,
        store: Store,
        files: Callable[[int], ProjectFiles],
        embeddings: Embeddings,
        executor: Executor,
    ) -> None:
        self._store = store
        self._files = files
        self._embeddings = embeddings
        self._executor = executor
        self._checked: set[tuple[int, str]] = set()
        """Projects and encoders whose file this process has searched for invalid numbers."""

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
        anew = False
        if not any(checked == project_id for checked, _ in self._checked):
            self._embeddings.encoder(project_id)  # loading it takes long: not while others wait for the lock
        with self._files(project_id).embedding_lock():
            project = self._store.project(project_id)
            if project is None:
                return None
            target = self._embeddings.target(project)
            encoder, file = target.encoder, target.file
            if project.encoder != encoder.signature:
                anew = bool(project.encoder)
                self._store.forget_embeddings(project_id, encoder.signature)
            elif self._store.embedded_until(project_id, len(file)) > len(file):
                anew = True
                log.error(
                    "project %s: %s has lost rows, so every crop is embedded anew", project_id, file.path
                )
                self._store.forget_embeddings(project_id, encoder.signature)
        if (project_id, encoder.signature) not in self._checked:
            anew = self._forget_invalid(project_id, file, encoder.signature) or anew
            self._checked.add((project_id, encoder.signature))
        tasks = self._store.tasks_to_embed(project_id, task_ids)
        if len(tasks):
            check_encoder(label_config.parse(project.label_config), self._embeddings.name(project))
        return Missing(tasks, anew)

    def _forget_invalid(self, project_id: int, file: EmbeddingFile, encoder: str) -> bool:
        """Have crops embedded anew whose row holds a number that is not finite; return whether there are any."""
        invalid = file.invalid_rows()
        if not invalid:
            return False
        with self._files(project_id).embedding_lock():
            rows = file.read()  # what a crash had left may be written over by now
            invalid = [row for row in invalid if not np.isfinite(rows[row]).all()]
            crops = self._store.forget_rows(project_id, invalid, encoder)
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
        project = self._store.project(project_id)
        if project is None:  # opening its file would create its folder again
            raise _gone(project_id)
        target = self._embeddings.target(project)
        if project.encoder != target.encoder.signature:
            raise _gone(project_id)

        def is_in_use() -> bool:
            now = self._store.project(project_id)
            return now is not None and now.encoder == target.encoder.signature

        appending = partial(self._appending, project_id, is_in_use)
        return self._executor.embed(project_id, tasks, target, progress, appending=appending, hosts=hosts)

    def missing_next(self, project_id: int) -> TasksToEmbed | None:
        """Find the crops that the encoder which a project is being switched to has not embedded yet.

        Returns:
            The crops; None if the project is not being switched.
        """
        project = self._store.project(project_id)
        if project is None or (target := self._embeddings.next_target(project)) is None:
            return None
        signature = target.encoder.signature
        if signature != project.next_signature:  # another version of it was installed meanwhile
            self._store.save_project(project_id, next_signature=signature)
        rows = self._store.rows_with(signature)
        if rows.end(project_id) > len(target.file):
            log.error("project %s: %s has lost rows, so all are made anew", project_id, target.file.path)
            rows.forget(project_id)
        return rows.tasks_to_embed(project_id)

    def embed_next(self, project_id: int, tasks: Collection[Task], hosts: Hosts | None = None) -> Embedded:
        """Embed some of the crops that `missing_next` has returned; arguments and errors are `embed_some`'s."""
        project = self._store.project(project_id)
        target = None if project is None else self._embeddings.next_target(project)
        if target is None:
            raise _gone(project_id)

        def is_still_next() -> bool:
            now = self._store.project(project_id)
            return now is not None and now.next_encoder == target.name

        appending = partial(self._appending, project_id, is_still_next)
        return self._executor.embed(project_id, tasks, target, appending=appending, hosts=hosts)

    def give_up_next(self, project_id: int, reason: str) -> None:
        """Record why the next encoder lacks the crops that a pass has left: their host does not answer."""
        project = self._store.project(project_id)
        if project is not None and (target := self._embeddings.next_target(project)) is not None:
            left = [task.id for task in TasksToEmbed(target.rows, project_id)]
            target.rows.save_problems(project_id, dict.fromkeys(left, reason))

    @contextmanager
    def _appending(self, project_id: int, is_wanted: Callable[[], bool]) -> Iterator[None]:
        """Hold the embedding lock of a project, if the project still exists and these rows are still wanted."""
        if not is_wanted():  # entering the lock would create the folder again
            raise _gone(project_id)
        with self._files(project_id).embedding_lock():
            if not is_wanted():
                raise _gone(project_id)
            yield

    def check(self, project_id: int) -> None:
        """Check that a project is known.

        Raises:
            PoolGoneError: It is not, or no longer.
        """
        if self._store.project(project_id) is None:
            raise PoolGoneError(f"Project {project_id} was forgotten.")

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


def _gone(project_id: int) -> PoolGoneError:
    return PoolGoneError(f"Project {project_id} was forgotten, or has another encoder by now.")
