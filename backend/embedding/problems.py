"""Record why a project's crops cannot be embedded, where people can see it."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from everylabel.backend.embedding.embeddings import EncoderError
from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.storage_failures import log_failure
from everylabel.backend.store import StorageError

if TYPE_CHECKING:
    from everylabel.backend.store import Store

log = logging.getLogger(__name__)


class EmbeddingProblems:
    """The problems of projects whose crops cannot be embedded.

    Args:
        store: Stores each problem with its project.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._problems: dict[int, str] = {}

    def failed(self, project_id: int, error: Exception) -> None:
        """Store the reason why crops could not be embedded as the project's problem, until it is `over`."""
        log_failure(log, error, "project %s: its crops cannot be embedded", project_id)
        self._problems[project_id] = unexpected(error)
        self.keep(project_id)

    def over(self, project_id: int) -> None:
        """Remove the problem, because the crops could be embedded."""
        self._problems.pop(project_id, None)
        if self._store.project(project_id) is not None:
            self._store.save_project(project_id, problem=None)

    def keep(self, project_id: int) -> None:
        """Store the problem again, if there is one, because something else may have removed it."""
        problem = self._problems.get(project_id)
        try:
            if problem is not None and self._store.project(project_id) is not None:
                self._store.save_project(project_id, problem=problem)
        except Exception as error:  # noqa: BLE001 - `log_failure` logs it
            log_failure(log, error, "project %s: its problem could not be stored either", project_id)


def unexpected(error: Exception) -> str:
    """Return the message for an unexpected error, without the error's own text, which may hold a secret.

    Args:
        error: The error; the text of an error of our own is returned as it is.
    """
    kind = type(error).__name__
    if isinstance(error, (LabelStudioError, LabelConfigError, StorageError, EncoderError)):
        return str(error)
    if isinstance(error, OSError):
        kind += f", {os.strerror(error.errno)}" if error.errno else ""
    return (
        f"The trainer failed unexpectedly ({kind}). It tries again, ever more rarely, in the end every half minute. Check "
        "whether the disk is full or memory is short; if neither is, report the fault with the traceback in its log."
    )
