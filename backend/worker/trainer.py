"""The trainer's jobs: which project needs a sync, what happens when one fails, and what is cleaned up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import Timeout

from everylabel.backend import logs
from everylabel.backend.embedding.problems import unexpected
from everylabel.backend.label_studio.errors import LabelStudioError, ProjectNotFoundError
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.storage_failures import log_failure
from everylabel.backend.sync.mirror import SYNC
from everylabel.backend.sync.unverified_projects import UnverifiedProjects
from everylabel.backend.worker.old_rounds import OldRounds

if TYPE_CHECKING:
    from everylabel.backend.embedding.lanes import EmbeddingLanes
    from everylabel.backend.embedding.problems import EmbeddingProblems
    from everylabel.backend.label_pages.sending import PageSender
    from everylabel.backend.label_studio.annotators import AnnotatorNames
    from everylabel.backend.label_studio.client import LabelStudio
    from everylabel.backend.label_studio.publisher import Publisher
    from everylabel.backend.rounds.live_loop import LiveLoop
    from everylabel.backend.store import Store
    from everylabel.backend.store.files import ProjectFiles
    from everylabel.backend.store.heartbeat import Heartbeat

log = logging.getLogger(__name__)


class Trainer:
    """The jobs of the one process that embeds and trains; `everylabel.backend.worker.jobs` calls them.

    Args:
        store: Holds the projects and their webhooks.
        files: Returns a project's files.
        loop: Catches up with a project.
        lanes: Embed in parallel with the rounds.
        problems: The problems of embedding.
        label_studio: The client.
        publisher: Deletes superseded versions from Label Studio.
        annotator_names: The names of annotators, refreshed after each job.
        page_sender: Sends the labels of confirmed pages.
        heartbeat: The sign that this process is alive.
        clock: Returns seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        files: Callable[[int], ProjectFiles],
        loop: LiveLoop,
        lanes: EmbeddingLanes,
        problems: EmbeddingProblems,
        label_studio: LabelStudio,
        publisher: Publisher,
        annotator_names: AnnotatorNames,
        page_sender: PageSender,
        heartbeat: Heartbeat,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._files = files
        self._loop = loop
        self._lanes = lanes
        self._problems = problems
        self._label_studio = label_studio
        self._annotator_names = annotator_names
        self._page_sender = page_sender
        self._heartbeat = heartbeat
        self._old_rounds = OldRounds(store, label_studio, publisher, clock)
        self._unverified = UnverifiedProjects(store, label_studio, files)
        self._failing: set[int] = set()
        """Projects whose last job failed unexpectedly."""

    def start_heartbeat(self) -> None:
        """Write every two seconds that this process, the trainer, is alive, and how Label Studio answers it."""
        self._heartbeat.start(
            lambda: {
                "label_studio_calls": self._label_studio.calls,
                "label_studio_failures": self._label_studio.failures,
            }
        )

    def embed(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Have these tasks' crops embedded if they are not (a job): a call of `/predict` waits for them."""
        self._lanes.request_tasks(project_id, task_ids)

    def stop(self) -> None:
        """Begin nothing more, because the process ends."""
        self._lanes.stop()

    def has_changed(self) -> bool:
        """Return whether more may be waiting than at the last call; for the thread that watches alone."""
        return self._store.has_changed() or bool(self._lanes.grown())

    def waiting(self) -> list[int]:
        """Return the projects with waiting webhooks, labels to send or enough new embeddings.

        Those that Label Studio has not confirmed are left out.
        """
        waiting = {*self._store.projects_with_events(), *self._page_sender.waiting()}
        for project_id in self._lanes.grown():
            if self._loop.has_grown_enough(project_id):
                waiting.add(project_id)
            else:
                self._lanes.mark_seen(project_id)
        return self._unverified.leave_out(sorted(waiting))

    def only_to_sync(self) -> set[int]:
        """Return the projects that wait for a sync and for nothing else, as all do after a restart."""
        return self._store.projects_with_events_of_one_kind(SYNC) - {*self._page_sender.waiting()}

    def learn(self, project_id: int) -> bool:
        """Send labels of confirmed pages, catch up with a project and run a round if one is due (a job).

        A failure is stored as the project's problem, which `everylabel doctor` shows.

        Returns:
            Whether that worked; otherwise it has to be tried again.
        """
        with logs.about(project=project_id), self._told(project_id):
            # First, so that one round learns from the page and from the webhooks of its annotations.
            sent = self._page_sender.send(project_id)
            learned = self._learn(project_id)
            if learned and project_id in self._failing:
                self._failing.discard(project_id)
                self._store.save_project(project_id, problem=None)
            self._problems.keep(project_id)
            return learned and sent
        return False

    def _learn(self, project_id: int) -> bool:
        lanes = self._lanes
        grown = project_id in lanes.grown()
        lanes.mark_seen(project_id)
        learned = False
        try:
            learned = self._catch_up(project_id)
        finally:
            if grown and not learned:
                lanes.mark_grown(project_id)
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
                self._files(project_id).delete()
            else:
                self._store.save_project(project_id, problem=str(error))
            return False
        if not self._store.events(project_id):
            self._old_rounds.clean_up_several(project_id)
        self._annotator_names.refresh()
        return True

    @contextmanager
    def _told(self, project_id: int) -> Iterator[None]:
        """Store an unexpected error as the project's problem, until a job of the project succeeds.

        The jobs of this project are tried again, less and less often, and those of other projects go on.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - `log_failure` logs it
            self._failing.add(project_id)
            log_failure(log, error, "project %s: a job failed unexpectedly", project_id)
            try:
                if self._store.project(project_id) is not None:
                    self._store.save_project(project_id, problem=unexpected(error))
            except Exception as another:  # noqa: BLE001 - `log_failure` logs it
                log_failure(log, another, "project %s: its problem could not be stored either", project_id)

    def request_sync(self) -> None:
        """Have every connected project compared with Label Studio, which may have changed while nothing listened."""
        for project in self._store.projects():
            if project.connected:
                self._store.add_event(project.id, SYNC, {})

    def overdue(self) -> list[int]:
        """Return the projects that need a sync, and have what is missing of the others embedded."""
        waiting = set(self.waiting())
        for project in self._store.projects():
            if not project.connected:
                continue
            latest = self._store.latest_round(project.id)
            due = project.reconciled_at is None or self._loop.reconcile_due(project.id, project.reconciled_at)
            if due or latest is None or latest.published_at is None:
                waiting.add(project.id)
            elif project.next_encoder is not None or self._store.count_tasks(project.id)["missing"]:
                # The process that was to embed them may have been killed.
                self._lanes.request(project.id)
        return sorted(waiting)

    def run_maintenance(self, is_stopping: Callable[[], bool] = lambda: False) -> None:
        """Clean old versions out of Label Studio, project by project: it deletes some of them one prediction at a time.

        Args:
            is_stopping: Asked before each project; the rest is left to another time.
        """
        projects = self._store.projects()
        self._page_sender.forget_tokens()
        self._unverified.leave_out([project.id for project in projects])
        for project in projects:
            if is_stopping():
                return
            if not project.connected:
                continue
            try:
                self._old_rounds.clean_up(project.id)
            except LabelStudioError as error:
                log.warning("project %s: %s", project.id, error)
            except Exception:
                # One project's versions never keep the others from being cleaned up.
                log.exception("project %s: old versions could not be cleaned up", project.id)
