"""Check projects that a request has named and Label Studio has not confirmed, apart from the work on known projects.

A sender of webhooks can name any number. Only Label Studio knows whether there is such a project, and nobody waits for
its answer: a webhook is on disk first, and work on the known projects does not queue behind it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from filelock import Timeout

from everylabel.backend.label_studio.errors import (
    LabelStudioError,
    LabelStudioUnreachableError,
    ProjectNotFoundError,
)

if TYPE_CHECKING:
    from everylabel.backend.label_studio.client import LabelStudio
    from everylabel.backend.store import Store
    from everylabel.backend.store.files import ProjectFiles

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0


class UnverifiedProjects:
    """The projects that Label Studio has not confirmed; it is asked about one at a time, and unknown ones are forgotten.

    Args:
        store: Holds projects and their webhooks.
        label_studio: The client.
        files: Returns a project's files.
    """

    def __init__(
        self,
        store: Store,
        label_studio: LabelStudio,
        files: Callable[[int], ProjectFiles],
    ) -> None:
        self._store = store
        self._label_studio = label_studio
        self._files = files
        self._verified: set[int] = set()
        self._verifying = threading.Lock()
        self._retry_at = 0.0

    def leave_out(self, project_ids: Sequence[int]) -> list[int]:
        """Return the projects that are known to exist, and ask Label Studio about the others in the background."""
        unknown = [id_ for id_ in project_ids if id_ not in self._verified]
        for project in map(self._store.project, unknown):
            if project is not None and (project.connected or project.reconciled_at is not None):
                self._verified.add(project.id)
        unverified = [id_ for id_ in unknown if id_ not in self._verified]
        if unverified:
            self._ask_about(unverified)
        return [id_ for id_ in project_ids if id_ in self._verified]

    def _ask_about(self, project_ids: Sequence[int]) -> None:
        if time.monotonic() < self._retry_at or not self._verifying.acquire(blocking=False):
            return  # they come again with the next sync

        def verify() -> None:
            try:
                self._verify(project_ids)
            finally:
                self._verifying.release()

        threading.Thread(target=verify, name="unverified-projects", daemon=True).start()

    def _verify(self, project_ids: Iterable[int]) -> None:
        forgotten = 0
        try:
            for project_id in project_ids:
                if self._is_there(project_id):
                    self._verified.add(project_id)
                else:
                    forgotten += self._forget(project_id)
        except LabelStudioUnreachableError as error:
            log.warning("projects are waiting to be confirmed by Label Studio: %s", error)
            self._retry_at = time.monotonic() + RETRY_SECONDS
        if forgotten:
            log.warning(
                "%d projects that requests had named are forgotten: Label Studio does not have them",
                forgotten,
            )

    def _is_there(self, project_id: int) -> bool:
        try:
            self._label_studio.project(project_id)
        except ProjectNotFoundError:
            return False
        except LabelStudioUnreachableError:
            raise
        except LabelStudioError as error:
            log.debug(
                "project %d: work on it will meet this too, and store it as its problem: %s",
                project_id,
                error,
            )
        return True

    def _forget(self, project_id: int) -> bool:
        """Drop what is stored of a project, unless a process is working on it, and return whether that was done."""
        files = self._files(project_id)
        try:
            with files.lock(timeout=0), files.pool_lock(timeout=0), files.embedding_lock(timeout=0):
                self._store.forget_events(project_id)
                self._store.delete_project(project_id)
                files.delete()
        except Timeout:
            return False
        return True
