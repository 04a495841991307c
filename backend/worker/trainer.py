"""The trainer's jobs: which project needs a look, what happens when a look fails, and what is tidied up."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import Timeout

from everylabel.backend import logs
from everylabel.backend.label_studio.errors import LabelStudioError, ProjectNotFoundError
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.label_studio.publisher import version_name
from everylabel.backend.label_studio.superseded import KEPT_SECONDS, left_behind, needed_versions
from everylabel.backend.store import StorageError
from everylabel.backend.sync.mirror import LOOK
from everylabel.backend.sync.unverified_projects import UnverifiedProjects

if TYPE_CHECKING:
    from everylabel.backend.services import Services

log = logging.getLogger(__name__)

CLEAN_UP_AT = 3
"""So many superseded versions that nobody needs are deleted at once, after the round that made the last of them."""
CLEAN_UP_VERSIONS = 20
"""How many versions one clean-up deletes, and two more for each round since the last: it always catches up."""
CLEAN_UP_SECONDS = 60.0
CLEAN_UP_TASKS = 100
"""How many annotated tasks one clean-up looks at."""


class Trainer:
    """The work of the one process that embeds and trains; `everylabel.backend.worker.jobs` calls it.

    Args:
        services: the parts of this backend.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store
        self._loop = services.loop
        self._unverified = UnverifiedProjects(services.store, lambda: services.label_studio, services.files)
        self._cleaned_to: dict[int, int] = {}
        """The newest round of each project whose version is gone from Label Studio."""
        self._tasks_cleaned: dict[int, set[int]] = {}
        """Annotated tasks of each project that were freed of superseded rounds."""
        self._failing: set[int] = set()
        """Projects whose last job failed unexpectedly."""
        self._embedding_problems: dict[int, str] = {}
        """Why crops of projects cannot be embedded."""

    def embed(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Have these tasks' crops embedded if they are not (a job): somebody waits for them in `/predict`."""
        self._services.embedding_lanes.request_tasks(project_id, task_ids)

    def embedding_failed(self, project_id: int, error: Exception | None) -> None:
        """Keep why crops could not be embedded as the project's problem, until they can be."""
        if error is None:
            self._embedding_problems.pop(project_id, None)
            if self._store.project(project_id) is not None:
                self._store.save_project(project_id, problem=None)
            return
        log.error("project %s: its crops cannot be embedded", project_id, exc_info=error)
        self._embedding_problems[project_id] = _unexpected(error)
        self._keep_embedding_problem(project_id)

    def _keep_embedding_problem(self, project_id: int) -> None:
        problem = self._embedding_problems.get(project_id)
        try:
            if problem is not None and self._store.project(project_id) is not None:
                self._store.save_project(project_id, problem=problem)
        except Exception:
            log.exception("project %s: its problem could not be kept either", project_id)

    def stop(self) -> None:
        """Begin nothing more: the process ends."""
        self._services.embedding_lanes.stop()

    def waiting(self) -> list[int]:
        """Return the projects that Label Studio has and that have webhooks waiting, or enough new embeddings."""
        waiting = set(self._store.projects_with_events())
        for project_id in self._services.embedding_lanes.grown():
            if self._loop.has_grown_enough(project_id):
                waiting.add(project_id)
            else:
                self._services.embedding_lanes.looked_at(project_id)
        return self._unverified.leave_out(sorted(waiting))

    def learn(self, project_id: int) -> bool:
        """Catch up with a project and run a round if one is due (a job); False if it has to be tried again.

        A failure is kept as the project's problem, to be shown by `everylabel doctor`.
        """
        with logs.about(project=project_id), self._told(project_id):
            learned = self._learn(project_id)
            if learned and project_id in self._failing:
                self._failing.discard(project_id)
                self._store.save_project(project_id, problem=None)
            self._keep_embedding_problem(project_id)
            return learned
        return False

    def _learn(self, project_id: int) -> bool:
        lanes = self._services.embedding_lanes
        grown = project_id in lanes.grown()
        lanes.looked_at(project_id)
        learned = False
        try:
            learned = self._catch_up(project_id)
        finally:
            if grown and not learned:
                lanes.has_grown(project_id)
        return learned

    def _catch_up(self, project_id: int) -> bool:
        try:
            self._loop.catch_up(project_id, wait=False, embed=False)
        except Timeout:
            return False  # another process runs this project's round
        except (LabelStudioError, LabelConfigError) as error:
            log.warning("project %s: %s", project_id, error)
            project = self._store.project(project_id)
            never_seen = project is None or (project.reconciled_at is None and not project.connected)
            if isinstance(error, ProjectNotFoundError) and never_seen:
                self._store.delete_project(project_id)
                self._services.files(project_id).delete()
            else:
                self._store.save_project(project_id, problem=str(error))
            return False
        if not self._store.events(project_id):
            self._clean_up_many(project_id)
        self._services.annotator_names.refresh()
        return True

    @contextmanager
    def _told(self, project_id: int) -> Iterator[None]:
        """Keep an error nobody has foreseen as the project's problem, until it has been caught up with.

        The jobs of this project are tried again, less and less often, and those of the others go on.
        """
        try:
            yield
        except Exception as error:
            self._failing.add(project_id)
            log.exception("project %s: a job failed unexpectedly", project_id)
            try:
                if self._store.project(project_id) is not None:
                    self._store.save_project(project_id, problem=_unexpected(error))
            except Exception:
                log.exception("project %s: its problem could not be kept either", project_id)

    def wake(self) -> None:
        """Have every connected project compared with Label Studio: of what happened meanwhile no webhook has told."""
        for project in self._store.projects():
            if project.connected:
                self._store.add_event(project.id, LOOK, {})

    def tend(self) -> list[int]:
        """Say which projects need a look, and clean old versions out of Label Studio (a job, once a minute)."""
        projects = self._store.projects()
        self._unverified.leave_out([project.id for project in projects])
        waiting = set(self.waiting())
        for project in projects:
            if not project.connected:
                continue
            latest = self._store.latest_round(project.id)
            due = project.reconciled_at is None or self._loop.reconcile_due(project.id, project.reconciled_at)
            if due or latest is None or latest.published_at is None:
                waiting.add(project.id)
            elif self._store.count_tasks(project.id)["missing"]:
                # Whoever was to embed them may have been killed.
                self._services.embedding_lanes.request(project.id)
            try:
                self._clean_up(project.id)
                self._clean_tasks(project.id)
            except LabelStudioError as error:
                log.warning("project %s: %s", project.id, error)
            except Exception:
                # One project's versions never keep the others from being looked after.
                log.exception("project %s: old versions could not be cleaned up", project.id)
        return sorted(waiting)

    def _clean_up_many(self, project_id: int) -> None:
        """Delete versions once several of them are needed no more: they would pile up on crops till the minute ends."""
        project = self._store.project(project_id)
        if project is None or not project.connected:
            return
        try:
            self._clean_up(project_id, after=self._cleaned_to.get(project_id, 0), at_least=CLEAN_UP_AT)
        except LabelStudioError as error:
            log.warning("project %s: %s", project_id, error)

    def _clean_up(self, project_id: int, *, after: int = 0, at_least: int = 1) -> None:
        """Delete what nobody needs of the rounds after a number; `at_least` so many, or it is left for later."""
        clock = self._services.clock
        rounds = self._store.rounds(project_id, after=after)
        label_studio = self._services.label_studio
        submitted = {who: at + label_studio.ahead for who, at in self._store.last_submits(project_id).items()}

        def superseded(users: Sequence[int]) -> list[int]:
            needed = needed_versions(rounds, submitted, users, clock())
            return [r.number for r in rounds if version_name(r.number) not in needed]

        # Asking who may sign in costs a call: only where that can decide it.
        if len(superseded(())) < at_least:
            return
        old = superseded([int(user["id"]) for user in label_studio.users()])
        if len(old) < at_least:
            return
        gone = {version_name(number) for number in old}
        keep = [version_name(record.number) for record in rounds if version_name(record.number) not in gone]
        new = sum(record.finished_at >= clock() - CLEAN_UP_SECONDS for record in rounds)
        at_most = CLEAN_UP_VERSIONS + 2 * new
        cleaned = self._services.publisher.clean_up(
            project_id, keep, at_most, after=after, up_to=rounds[-1].number
        )
        if cleaned < at_most:
            self._cleaned_to[project_id] = max(old)

    def _clean_tasks(self, project_id: int) -> None:
        """Free annotated crops of the rounds that must be kept for others: they would stand beside a person's label."""
        newest, label_studio = self._store.latest_round(project_id), self._services.label_studio
        if newest is None:
            return
        before = self._services.clock() - label_studio.ahead - KEPT_SECONDS
        annotations = self._store.annotations(project_id)
        done = self._tasks_cleaned.setdefault(project_id, set())
        left = [id_ for id_ in left_behind(annotations, newest, before) if id_ not in done][-CLEAN_UP_TASKS:]
        if left and self._services.publisher.clean_tasks(project_id, left):
            done.update(left)


def _unexpected(error: Exception) -> str:
    """What a person is told of an error that nobody has foreseen; its own text may hold a secret."""
    kind = type(error).__name__
    if isinstance(error, (LabelStudioError, LabelConfigError, StorageError)):
        return str(error)
    if isinstance(error, OSError):
        kind += f", {os.strerror(error.errno)}" if error.errno else ""
    return (
        f"The trainer failed unexpectedly ({kind}) and tries again, every half minute at last. Its log has the "
        "traceback: look whether the disk is full or memory is short, and report the fault with it otherwise."
    )
