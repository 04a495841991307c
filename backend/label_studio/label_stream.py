"""Check which tasks *Label All Tasks* can serve, without asking for one: that locks a task in somebody's name.

Label Studio 1.23.2 (`projects/functions/next_task.py`) serves a user the tasks of a project that are not `is_labeled`, that
the user has not annotated, skipped ones and empty ones included, and has not postponed. First comes the one they hold a lock
on; then, where a task may have several annotations, those that others have begun; then, under uncertainty sampling,
those with a prediction of the project's `model_version` that nobody else has locked, by rising score; and any other at
random only if not one of those is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from everylabel.backend.label_studio.client import LabelStudio


def not_served(
    label_studio: LabelStudio, project_id: int, task_ids: Sequence[int], model_version: str
) -> dict[int, str]:
    """Read these tasks in bulk and return those that no user is served in their place, with the reason.

    Args:
        label_studio: the client.
        project_id: the project.
        task_ids: those a round asks for.
        model_version: the version of that round.
    """
    found = {int(task["id"]): task for task in label_studio.tasks_among(project_id, task_ids)}
    reasons = {id_: next(_reasons(found.get(id_), model_version), None) for id_ in task_ids}
    return {id_: reason for id_, reason in reasons.items() if reason is not None}


def _reasons(task: Mapping[str, Any] | None, model_version: str) -> Iterator[str]:
    if task is None:
        yield "it is gone"
        return
    if task.get("cancelled_annotations"):
        yield "somebody has skipped it"
    if task.get("is_labeled") or task.get("total_annotations"):
        yield "somebody has annotated it"
    if not any(one.get("model_version") == model_version for one in task.get("predictions") or []):
        yield f"it has no prediction of {model_version!r}"
