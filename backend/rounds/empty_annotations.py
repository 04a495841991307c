"""Annotations that were submitted without a class: they hold no label, and nobody is asked for the crop again.

Label Studio 1.23.2 saves them and says *saved successfully* unless the labeling config has `required="true"`: nothing was
chosen, or the key of a chosen class was pressed again, which takes the choice back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from everylabel.backend.label_studio.label_config import ImageChoices
from everylabel.backend.rounds.labels import counted_annotations
from everylabel.backend.store import Annotation

NAMED = 5
"""The most tasks that a sentence names."""


@dataclass(frozen=True)
class EmptyAnnotation:
    """An annotation that holds no class of the labeling config."""

    task_id: int
    annotator: int | None
    former: str | None
    """The label it had before; None if it never had one."""


def empty_annotations(
    annotations: Sequence[Annotation], labels: Mapping[int, str], classes: Sequence[str]
) -> list[EmptyAnnotation]:
    """Find the empty annotations that matter.

    An empty annotation beside somebody's label for the same task is left out, unless it had another label itself.

    Args:
        annotations: All annotations, oldest change first.
        labels: The label of each task.
        classes: The classes of the labeling config.

    Returns:
        The empty annotations; those that had a label come first.
    """
    counted = {annotation.id for annotation in counted_annotations(annotations, classes)}
    found = [
        EmptyAnnotation(a.task_id, a.annotator, a.former if a.choice is None else a.choice)
        for a in annotations
        if a.id not in counted and not a.cancelled and not a.accepted
    ]
    open_ = [one for one in found if labels.get(one.task_id) is None or _lost(one, labels)]
    return sorted(open_, key=lambda one: one.former is None)


def _lost(empty: EmptyAnnotation, labels: Mapping[int, str]) -> bool:
    return empty.former is not None and empty.former != labels.get(empty.task_id)


def former_labels(
    annotations: Sequence[Annotation], labels: Mapping[int, str], control: ImageChoices
) -> dict[int, str]:
    """Return the label that each unlabelled task had before its annotation became empty.

    Labels with classes that the labeling config no longer has are left out.

    Args:
        annotations: All annotations, oldest change first.
        labels: The label of each task.
        control: The classes of the labeling config.

    Returns:
        The former label, by task.
    """
    return {
        one.task_id: one.former
        for one in empty_annotations(annotations, labels, control.classes)
        if one.former is not None and one.task_id not in labels and control.knows(one.former)
    }


def named(found: Sequence[EmptyAnnotation]) -> str:
    """Name the first tasks, each with the label it had: `task 12 (was crack), task 15 and 3 more`."""
    tasks = [
        f"task {one.task_id}" + ("" if one.former is None else f" (was {one.former})")
        for one in found[:NAMED]
    ]
    rest = len(found) - len(tasks)
    return ", ".join(tasks) + (f" and {rest} more" if rest else "")


def counted_in_words(found: Sequence[EmptyAnnotation]) -> str:
    """Return how many there are, and how many had a label: `3 without a class, 1 of which had a label`."""
    had = sum(one.former is not None for one in found)
    return f"{len(found)} without a class" + (f", {had} of which had a label" if had else "")


def way_out(control: ImageChoices) -> str:
    """Return what a person can do about them."""
    again = "Open each one in Label Studio, choose a class and press Update, or delete the annotation"
    if control.multiple:
        return f'{again}. Nothing ticked says nothing: give "none of these" a class of its own.'
    return f'{again}; required="true" on the <Choices> keeps Label Studio from saving the next one.'
