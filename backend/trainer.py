"""The trainer's jobs: which project needs a look, what happens when a look fails, and what is tidied up."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from filelock import Timeout

from backend import logs
from backend.label_config import LabelConfigError
from backend.label_studio_errors import LabelStudioError, ProjectNotFoundError
from backend.mirror import LOOK
from backend.publish import version_name
from backend.unverified_projects import UnverifiedProjects

if TYPE_CHECKING:
    from backend.services import Services

log = logging.getLogger(__name__)

VERSIONS_KEPT_SECONDS = 900.0
"""A superseded pre-annotation may still be open before an annotator, whose submit fails once it is deleted."""
CLEAN_UP_VERSIONS = 20
"""How many versions one clean-up deletes, and two more for each round since the last: it always catches up."""
CLEAN_UP_SECONDS = 60.0


class Trainer:
    """The work of the one process that embeds and trains; `backend.jobs` calls it.

    Args:
        services: the parts of this backend.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store
        self._loop = services.loop
        self._unverified = UnverifiedProjects(services.store, lambda: services.label_studio, services.files)

    def embed(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Embed these tasks' crops if they are not (a job): somebody waits for them in `/predict`."""
        with logs.about(project=project_id):
            failure = self._loop.embed_missing(project_id, task_ids).failure
        if failure is not None:
            # Recorded, so that whoever waits learns the reason; the next reconcile tries them again.
            left = [task.id for task in self._store.tasks(project_id, task_ids) if task.embedding_row is None]
            self._store.save_problems(project_id, dict.fromkeys(left, str(failure)))

    def waiting(self) -> list[int]:
        """Return the projects that have webhooks waiting, and that Label Studio has."""
        return self._unverified.leave_out(self._store.projects_with_events())

    def learn(self, project_id: int) -> bool:
        """Catch up with a project and run a round if one is due (a job); False if it has to be tried again.

        A failure is kept as the project's problem, to be shown by `everylabel doctor`.
        """
        with logs.about(project=project_id):
            return self._learn(project_id)

    def _learn(self, project_id: int) -> bool:
        try:
            self._loop.catch_up(project_id, wait=False)
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
        return True

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
            try:
                self._clean_up(project.id)
            except LabelStudioError as error:
                log.warning("project %s: %s", project.id, error)
        return sorted(waiting)

    def _clean_up(self, project_id: int) -> None:
        rounds = self._store.rounds(project_id)
        keep = {
            version_name(record.number)
            for record, following in zip_longest(rounds, rounds[1:])
            if following is None or self._services.clock() - following.finished_at < VERSIONS_KEPT_SECONDS
        }
        served = [record for record in rounds if record.published_at is not None][-1:]
        keep |= {version_name(record.number) for record in served}
        if len(keep) < len(rounds):
            since = self._services.clock() - CLEAN_UP_SECONDS
            new = sum(record.finished_at >= since for record in rounds)
            self._services.publisher.clean_up(project_id, sorted(keep), at_most=CLEAN_UP_VERSIONS + 2 * new)
