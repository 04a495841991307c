"""Forget projects that were deleted in Label Studio."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from everylabel.backend.label_studio.errors import ProjectNotFoundError

if TYPE_CHECKING:
    from everylabel.backend.label_studio.client import LabelStudio
    from everylabel.backend.store import Store
    from everylabel.backend.store.files import ProjectFiles

log = logging.getLogger(__name__)


def forget_if_deleted(store: Store, files: ProjectFiles, label_studio: LabelStudio, project_id: int) -> bool:
    """Forget a project if a webhook says that it was deleted and Label Studio confirms it; return whether it was.

    Raises:
        LabelStudioError: Label Studio does not answer or refuses.
    """
    if not any(event.action == "PROJECT_DELETED" for event in store.events(project_id)):
        return False
    try:
        label_studio.project(project_id)
    except ProjectNotFoundError:
        with files.embedding_lock():  # nobody appends rows to what is being deleted
            store.delete_project(project_id)
            files.delete()
        log.info("project %s was deleted in Label Studio and is forgotten", project_id)
        return True
    return False
