"""The label of each crop, decided here and nowhere else: rounds, page and commands all ask this module.

Where annotators agree, their label counts. Where they disagree, the newest round weighs who is usually right (CROWDLAB)
and keeps its answer in the store, with the votes it weighed. That answer holds as long as the votes are the same. A crop
whose votes have changed since, or that no round could weigh, has the label most of its annotators chose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from everylabel.backend.store import Annotation, ResolvedDisagreement
from everylabel.model import label_set

if TYPE_CHECKING:
    from everylabel.backend.store import Store
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.pool import Rows


def current_labels(
    store: Store, project_id: int, annotations: Sequence[Annotation], classes: Sequence[str]
) -> dict[int, str]:
    """Return the label of each labeled task, as the newest round has decided it.

    Args:
        store: holds what the newest round decided.
        project_id: the project.
        annotations: all of the project, oldest change first; those of waiting webhooks may be among them.
        classes: those the labeling config has now.
    """
    return resolve_labels(annotations, classes, store.resolved_disagreements(project_id))


def resolve_labels(
    annotations: Sequence[Annotation],
    classes: Sequence[str],
    resolved: Mapping[int, ResolvedDisagreement],
) -> dict[int, str]:
    """Return the label of each labeled task: what a round decided, or else what most of its annotators chose.

    Only what `counted_annotations` returns counts. Of labels chosen equally often, the most recent one counts.

    Args:
        annotations: oldest change first.
        classes: those the labeling config has now.
        resolved: what `weigh_disagreements` decided, by task. An answer is ignored once its task has other votes, or
            once its label has left the labeling config.
    """
    counted = counted_annotations(annotations, classes)
    votes = _votes(annotation for annotation in counted if annotation.task_id in resolved)
    still = {
        task_id: found.label
        for task_id, found in resolved.items()
        if votes.get(task_id) == found.votes and _is_known(found.label, {*classes})
    }
    return _majority(counted) | still


def weigh_disagreements(
    counted: Sequence[Annotation],
    row_of: Mapping[int, int],
    pool: Rows,
    classifier: Classifier,
) -> dict[int, ResolvedDisagreement]:
    """Decide the label of each task whose annotators disagree by how reliable each of them is (CROWDLAB).

    Without a disagreement this costs nothing. A classifier that is trained whole, or on label sets, would take minutes
    to predict the crops: then the result is empty, and the majority counts.

    Args:
        counted: what `counted_annotations` returns, oldest change first.
        row_of: the pool row of each task that has one; tasks without one are left out.
        pool: (n, d) embeddings.
        classifier: the project's; what it learns from the other labels is one more vote.

    Returns:
        The answer for each task with a disagreement.
    """
    from everylabel.model.label_quality.consensus import find_consensus  # noqa: PLC0415 - takes long to load

    votes = _votes(annotation for annotation in counted if annotation.task_id in row_of)
    disagreements = [task_id for task_id, given in votes.items() if len(set(given.values())) > 1]
    if not disagreements or not classifier.closed_form:
        return {}
    tasks = sorted(votes)
    annotators = sorted({annotator for given in votes.values() for annotator in given})
    found = find_consensus(
        [[votes[task_id].get(annotator) for task_id in tasks] for annotator in annotators],
        annotators,
        pool[np.asarray([row_of[task_id] for task_id in tasks], dtype=np.intp)],
        classifier=classifier.fresh().adapt(pool),
    )
    labels = {tasks[crop.index]: crop.label for crop in found}
    return {task_id: ResolvedDisagreement(labels[task_id], votes[task_id]) for task_id in disagreements}


def counted_annotations(annotations: Iterable[Annotation], classes: Sequence[str]) -> list[Annotation]:
    """Return the annotations in which a person chose a class of the labeling config, in their order.

    Left out are skipped and empty annotations, choices that have left the labeling config, and pre-annotations accepted
    in bulk, which are the machine's.
    """
    allowed = {*classes}
    return [
        annotation
        for annotation in annotations
        if annotation.choice is not None
        and not annotation.cancelled
        and not annotation.accepted
        and _is_known(annotation.choice, allowed)
    ]


def closed_tasks(annotations: Sequence[Annotation], labels: Mapping[int, str]) -> set[int]:
    """Return the tasks that have an annotation and no label: nobody is asked for them again.

    They were skipped, accepted in bulk, or submitted without a class of the labeling config. Label Studio 1.23.2
    never serves a task to somebody who has annotated it, however emptily, and an empty annotation completes it.
    """
    return {annotation.task_id for annotation in annotations} - labels.keys()


def _majority(counted: Iterable[Annotation]) -> dict[int, str]:
    """Return the label given most often to each task; of those given equally often, the most recent."""
    choices_of: dict[int, list[str]] = defaultdict(list)
    for annotation in counted:
        choices_of[annotation.task_id].append(str(annotation.choice))
    labels = {}
    for task_id, choices in choices_of.items():
        counts = Counter(choices)
        most = max(counts.values())
        labels[task_id] = next(choice for choice in reversed(choices) if counts[choice] == most)
    return labels


def _votes(counted: Iterable[Annotation]) -> dict[int, dict[str, str]]:
    """Return the newest choice of each annotator, by task and annotator."""
    votes: dict[int, dict[str, str]] = {}
    for annotation in counted:
        annotator = "nobody" if annotation.annotator is None else str(annotation.annotator)
        votes.setdefault(annotation.task_id, {})[annotator] = str(annotation.choice)
    return votes


def _is_known(label: str, allowed: set[str]) -> bool:
    """Return whether each class of a label is among those allowed; a label may be a set of classes."""
    return label in allowed or {*label_set.split(label)} <= allowed
