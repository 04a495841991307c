"""Crops that several people labelled differently: whose word counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from everylabel.backend.store import Annotation
from everylabel.model import label_set

if TYPE_CHECKING:
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.pool import Rows


def counted_annotations(annotations: Iterable[Annotation], classes: Sequence[str]) -> list[Annotation]:
    """The annotations that are a person's choice of a class there is, in their order.

    Skipped and empty annotations say nothing, nor do choices that have left the labeling config, nor do
    pre-annotations accepted in bulk: those are the machine's.
    """
    allowed = set(classes)
    return [
        annotation
        for annotation in annotations
        if (choice := annotation.choice) is not None
        and not annotation.cancelled
        and not annotation.accepted
        and (choice in allowed or {*label_set.split(choice)} <= allowed)
    ]


def settle(
    counted: Sequence[Annotation],
    row_of: Mapping[int, int],
    pool: Rows,
    classifier: Classifier,
) -> dict[int, str]:
    """The labels of disputed tasks, weighed by who is usually right (CROWDLAB); no dispute, no work.

    Empty too for a classifier that is trained whole or on label sets, whose opinion would cost minutes.

    Args:
        counted: what `counted_annotations` leaves, oldest change first.
        row_of: the pool row of each task that has one; others cannot be judged and are left out.
        pool: (n, d) embeddings.
        classifier: the project's; what it learns from the other labels is one more opinion.
    """
    from everylabel.model.label_quality.consensus import find_consensus  # noqa: PLC0415 - takes long to load

    votes: dict[int, dict[str, str]] = {}
    for annotation in counted:
        if annotation.task_id in row_of:
            person = "nobody" if annotation.annotator is None else str(annotation.annotator)
            votes.setdefault(annotation.task_id, {})[person] = str(annotation.choice)
    disputed = [task_id for task_id, given in votes.items() if len(set(given.values())) > 1]
    if not disputed or not classifier.closed_form:
        return {}
    tasks = sorted(votes)
    people = sorted({person for given in votes.values() for person in given})
    found = find_consensus(
        [[votes[task_id].get(person) for task_id in tasks] for person in people],
        people,
        pool[np.asarray([row_of[task_id] for task_id in tasks], dtype=np.intp)],
        classifier=classifier.fresh().adapt(pool),
    )
    settled = {tasks[crop.index]: crop.label for crop in found}
    return {task_id: settled[task_id] for task_id in disputed}
