"""Second labels in the label stream: of which labelled tasks Label Studio asks another person, too.

Label Studio 1.23.2 holds for each task how many people are to annotate it, its `overlap`, and takes a task with fewer
annotations for unlabelled. `/next` serves such a task before every unlabelled one, whatever is predicted of it, to
everybody who has not annotated it: those with the most annotations first, and of equals a random one.

A project's `maximum_annotations` is how many people that is, and its `overlap_cohort_percentage` of how many of its tasks
Label Studio asks so many. With 100, as a project has it from the start, it asks for them of every task; with less, of
some that it picks itself; with 0 of none, until somebody sets the `overlap` of a task. Where tasks are imported, deleted
or synced from a storage, or `overlap_cohort_percentage` changes, it sets the `overlap` of every task anew and counts who has
labelled it. Where `maximum_annotations` alone changes, it raises the `overlap` of each task that has more than one, also of
those that have all their annotations: these count as unlabelled then, and are served before all others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everylabel.backend.label_studio.client import LabelStudio

ONE_PERSON = {"maximum_annotations": 1, "overlap_cohort_percentage": 100}
"""A project's settings where one person is asked about each task: as Label Studio makes a project."""


def overlap_of(project: Mapping[str, Any]) -> int:
    """Return how many people a task may be asked of where Label Studio itself picks no such tasks, else 1.

    Args:
        project: As Label Studio describes it.
    """
    if project.get("overlap_cohort_percentage") != 0:
        return 1
    return max(1, int(project.get("maximum_annotations") or 1))


def own_overlap_of(project: Mapping[str, Any]) -> int:
    """Return how many people Label Studio asks about tasks that it picks itself, or about all of them; 1 where it picks none.

    Args:
        project: As Label Studio describes it.
    """
    if project.get("overlap_cohort_percentage") == 0:
        return 1
    return max(1, int(project.get("maximum_annotations") or 1))


def leave_choice_open(label_studio: LabelStudio, project_id: int, people: int) -> Mapping[str, Any] | None:
    """Set that Label Studio asks so many people about a task, and picks none of these tasks itself.

    What has one label is labelled then, as before. Tasks that are asked for a second label are forgotten until the next round.

    Args:
        label_studio: The client.
        project_id: The project.
        people: How many people may be asked about a task, 2 or more.

    Returns:
        The project as it was; None where it is so already, and nothing is changed.

    Raises:
        LabelStudioError: It does not answer, or refuses.
    """
    project = label_studio.project(project_id)
    if overlap_of(project) == people:
        return None
    if project.get("overlap_cohort_percentage") == 0:
        # With `maximum_annotations` alone changed, tasks with all their labels would be served again.
        label_studio.update_project(project_id, **ONE_PERSON)
    label_studio.update_project(project_id, maximum_annotations=people, overlap_cohort_percentage=0)
    return project


def ask_one_person(label_studio: LabelStudio, project_id: int) -> bool:
    """Set that Label Studio asks one person about each task, where the choice of tasks was left open; what it picks itself stays.

    Returns:
        Whether the choice was open.

    Raises:
        LabelStudioError: It does not answer, or refuses.
    """
    if overlap_of(label_studio.project(project_id)) < 2:
        return False
    label_studio.update_project(project_id, **ONE_PERSON)
    return True


def serve_second_labels(
    label_studio: LabelStudio, project_id: int, asked: Collection[int], over: Collection[int]
) -> None:
    """Have Label Studio ask one more person about some labelled tasks, and nobody about others, where the choice is open.

    A task is asked for by an `overlap` of one more than it has annotations, and no longer by one of 1, which every task
    has that nobody is asked about again. The predictions that the form would show of a task that is asked for are
    deleted, so that nothing leads the person.

    Args:
        label_studio: The client.
        project_id: The project.
        asked: The tasks to ask for; what is asked for already, or has all its annotations, stays as it is.
        over: The tasks that were asked for earlier.

    Raises:
        LabelStudioError: It does not answer, or refuses.
    """
    if not asked and not over:
        return
    project = label_studio.project(project_id)
    if overlap_of(project) < 2:
        return
    changed = []
    for task in label_studio.tasks_among(project_id, [*asked, *over]):
        fields = _asking(task, project) if task["id"] in asked else _taking_back(task, project)
        if task["id"] in asked:
            _blind(label_studio, task, project)
        if fields:
            label_studio.update_task(int(task["id"]), **fields)
            changed.append(int(task["id"]))
    # Label Studio saves all of a task that it has read before: what somebody submitted in between is not counted.
    for task in label_studio.tasks_among(project_id, changed) if changed else ():
        if fields := _counting(task, project):
            label_studio.update_task(int(task["id"]), **fields)


def not_asked(label_studio: LabelStudio, project_id: int, task_ids: Sequence[int]) -> list[int]:
    """Return those of these tasks that Label Studio asks nobody about again.

    Raises:
        LabelStudioError: It does not answer.
    """
    project = label_studio.project(project_id)
    asked = {
        int(task["id"]) for task in label_studio.tasks_among(project_id, task_ids) if _is_asked(task, project)
    }
    return [task_id for task_id in task_ids if task_id not in asked]


def _is_asked(task: Mapping[str, Any], project: Mapping[str, Any]) -> bool:
    return not task.get("is_labeled") and task.get("overlap", 1) > _annotations(task, project) > 0


def _annotations(task: Mapping[str, Any], project: Mapping[str, Any]) -> int:
    """Return how many annotations of a task count towards its overlap: no skipped ones, except where Label Studio ignores skips."""
    counts_skips = project.get("skip_queue") == "IGNORE_SKIPPED"
    return sum(counts_skips or not one.get("was_cancelled") for one in task.get("annotations") or ())


def _asking(task: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to change of a task so that one more person is asked about it."""
    n, overlap = _annotations(task, project), int(task.get("overlap") or 1)
    if 1 < overlap <= n or not 0 < n < overlap_of(project):  # answered since the round, or deleted
        return _taking_back(task, project)
    if overlap == n + 1 and not task.get("is_labeled"):
        return {}
    # With `overlap` alone the task would stay a labelled one until somebody annotates it.
    return {"overlap": n + 1, "is_labeled": False}


def _taking_back(task: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to change of a task so that nobody is asked about it who was not asked for its first label."""
    is_labeled = _annotations(task, project) > 0
    if int(task.get("overlap") or 1) == 1 and bool(task.get("is_labeled")) == is_labeled:
        return {}
    return {"overlap": 1, "is_labeled": is_labeled}


def _counting(task: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to change of a task that was annotated while it was changed."""
    fields = {} if _is_asked(task, project) else _taking_back(task, project)
    n = sum(not one.get("was_cancelled") for one in task.get("annotations") or ())
    if task.get("total_annotations") not in (n, None):
        fields["total_annotations"] = n
    return fields


def _blind(label_studio: LabelStudio, task: Mapping[str, Any], project: Mapping[str, Any]) -> None:
    """Delete a task's predictions of the version that the form shows: of a round of ours that asked for its first label."""
    for prediction in task.get("predictions") or ():
        if prediction.get("model_version") == project.get("model_version"):
            label_studio.delete_prediction(int(prediction["id"]))
