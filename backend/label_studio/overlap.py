"""Second labels in the label stream: of which labelled tasks Label Studio asks another person, too.

Label Studio 1.23.2 holds for each task how many people are to annotate it, its `overlap`, and takes a task with fewer
annotations for unlabelled. `/next` serves such a task before every unlabelled one, whatever is predicted of it, to
everybody who has not annotated it: those with the most annotations first, and of equals a random one.

A project's `maximum_annotations` is how many people that is, and its `overlap_cohort_percentage` of how many of its tasks
Label Studio asks so many. With 100, as a project has it from the start, it asks for them of every task; with less, of
some that it picks itself; with 0 of none, until somebody sets the `overlap` of a task. Every import takes that back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everylabel.backend.label_studio.client import LabelStudio


def overlap_of(project: Mapping[str, Any]) -> int:
    """Return how many people a task may be asked of where Label Studio itself picks no such tasks, else 1.

    Args:
        project: As Label Studio describes it.
    """
    if project.get("overlap_cohort_percentage") != 0:
        return 1
    return max(1, int(project.get("maximum_annotations") or 1))


def ask_for_second_labels(
    label_studio: LabelStudio, project: Mapping[str, Any], task_ids: Collection[int]
) -> None:
    """Have Label Studio serve labelled tasks to the people who have not annotated them, in projects that leave it open which.

    Args:
        label_studio: The client.
        project: As Label Studio describes it now.
        task_ids: The tasks; what is asked for already, or has all its annotations, stays as it is.

    Raises:
        LabelStudioError: It does not answer, or refuses.
    """
    overlap = overlap_of(project)
    if overlap < 2 or not task_ids:
        return
    for task in label_studio.tasks_among(int(project["id"]), [*task_ids]):
        is_asked = task.get("overlap") == overlap and not task["is_labeled"]
        if not is_asked and task["total_annotations"] < overlap:
            # With `overlap` alone the task would stay a labelled one until somebody annotates it.
            label_studio.update_task(int(task["id"]), overlap=overlap, is_labeled=False)
