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
from everylabel.backend.label_studio.publisher import version_name
from everylabel.backend.label_studio.superseded import (
    KEPT_SECONDS,
    OPEN_SECONDS,
    Submit,
    left_behind,
    needed_versions,
    reserves_left_over,
    submits_of,
)
from everylabel.backend.sync.mirror import SYNC
from everylabel.backend.sync.unverified_projects import UnverifiedProjects

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

CLEAN_UP_AT = 3
"""When this many superseded versions are needed by nobody, they are deleted right after the round."""
CLEAN_UP_VERSIONS = 20
"""How many versions one clean-up deletes; two more for each round since the last, so that it always catches up."""
CLEAN_UP_SECONDS = 60.0
CLEAN_UP_TASKS = 100
"""How many annotated tasks one clean-up checks."""
CLEAN_UP_RESERVES = 10
"""How many rounds one clean-up takes the reserve of: about half a second each."""


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
        self._publisher = publisher
        self._annotator_names = annotator_names
        self._page_sender = page_sender
        self._heartbeat = heartbeat
        self._clock = clock
        self._unverified = UnverifiedProjects(store, label_studio, files)
        self._cleaned_to: dict[int, int] = {}
        """The newest round of each project whose version is gone from Label Studio."""
        self._tasks_cleaned: dict[int, set[int]] = {}
        """Annotated tasks of each project that were freed of superseded rounds."""
        self._reserves_cleaned: dict[int, set[int]] = {}
        """The rounds of each project whose reserve is gone from Label Studio."""
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
            self._clean_up_many(project_id)
        self._annotator_names.refresh()
        return True

    @contextmanager
    def _told(self, project_id: int) -> Iterator[None]:
        """Store an unexpected error as the project's problem, until a job of the project succeeds.

        The jobs of this project are tried again, less and less often, and those of other projects go on.
        """
        try:
            yield
        except Exception as error:
            self._failing.add(project_id)
            log.exception("project %s: a job failed unexpectedly", project_id)
            try:
                if self._store.project(project_id) is not None:
                    self._store.save_project(project_id, problem=unexpected(error))
            except Exception:
                log.exception("project %s: its problem could not be stored either", project_id)

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
            elif self._store.count_tasks(project.id)["missing"]:
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
                self._clean_up(project.id)
                self._clean_reserves(project.id)
                self._clean_tasks(project.id)
            except LabelStudioError as error:
                log.warning("project %s: %s", project.id, error)
            except Exception:
                # One project's versions never keep the others from being cleaned up.
                log.exception("project %s: old versions could not be cleaned up", project.id)

    def _clean_up_many(self, project_id: int) -> None:
        """Delete superseded versions once there are several: they would pile up on crops until the minute ends."""
        project = self._store.project(project_id)
        if project is None or not project.connected:
            return
        try:
            self._clean_up(project_id, after=self._cleaned_to.get(project_id, 0), at_least=CLEAN_UP_AT)
        except LabelStudioError as error:
            log.warning("project %s: %s", project_id, error)

    def _clean_up(self, project_id: int, *, after: int = 0, at_least: int = 1) -> None:
        """Delete the versions of rounds after number `after` that nobody needs, if there are `at_least` so many."""
        clock = self._clock
        rounds = self._store.rounds(project_id, after=after)
        submits = self._recent_submits(project_id)

        def superseded(users: Sequence[int]) -> list[int]:
            needed = needed_versions(rounds, submits, users, clock())
            return [r.number for r in rounds if version_name(r.number) not in needed]

        # Asking who may sign in costs a request: only if the answer can matter.
        if len(superseded(())) < at_least:
            return
        old = superseded([int(user["id"]) for user in self._label_studio.users()])
        if len(old) < at_least:
            return
        gone = {version_name(number) for number in old}
        keep = [version_name(record.number) for record in rounds if version_name(record.number) not in gone]
        new = sum(record.finished_at >= clock() - CLEAN_UP_SECONDS for record in rounds)
        at_most = CLEAN_UP_VERSIONS + 2 * new
        cleaned = self._publisher.clean_up(project_id, keep, at_most, after=after, up_to=rounds[-1].number)
        if cleaned < at_most:
            self._cleaned_to[project_id] = max(old)

    def _clean_reserves(self, project_id: int) -> None:
        """Delete the reserves of rounds that are kept for the sake of their queue: they would pile up on crops."""
        done = self._reserves_cleaned.setdefault(project_id, set())
        rounds, submits = self._store.rounds(project_id), self._recent_submits(project_id)
        if not reserves_left_over(rounds, submits, 0, self._clock(), done):
            return  # asking who may hold a crop costs requests
        held, people = self._label_studio.model_versions(project_id), len(self._label_studio.users())
        left = reserves_left_over(rounds, submits, people, self._clock(), done)
        done.update(record.number for record in rounds[:-1] if record.model_version not in held)
        for record in [r for r in left if r.number not in done][:CLEAN_UP_RESERVES]:
            self._publisher.clean_reserve(project_id, record.model_version, {*record.reserve})
            done.add(record.number)

    def _recent_submits(self, project_id: int) -> list[Submit]:
        """Return the submits of the last day, by our clock."""
        lead = self._label_studio.clock_lead
        since = self._clock() - lead - OPEN_SECONDS
        return submits_of(self._store.annotations(project_id, since=since), lead)

    def _clean_tasks(self, project_id: int) -> None:
        """Delete predictions of kept rounds from annotated crops, where they would be shown beside a person's label."""
        newest, label_studio = self._store.latest_round(project_id), self._label_studio
        if newest is None:
            return
        before = self._clock() - label_studio.clock_lead - KEPT_SECONDS
        annotations = self._store.annotations(project_id)
        done = self._tasks_cleaned.setdefault(project_id, set())
        not_shown, questioned = left_behind(annotations, newest, before)
        left = [id_ for id_ in not_shown if id_ not in done][-CLEAN_UP_TASKS:]
        if left and self._publisher.clean_tasks(project_id, left):
            done.update(left)
        if questioned and newest.published_at is not None:
            self._publisher.keep_one_suggestion(project_id, questioned, newest.model_version)
