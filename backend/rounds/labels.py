"""Decide the label of each crop: rounds, page and commands all ask this module, and none decides it otherwise.

If annotators agree, their label counts. If they disagree, the newest round weighs them by how often each is right
(CROWDLAB) and stores its answer with the votes. The answer holds as long as the votes are the same. A crop whose votes
have changed since, or that no round could weigh, has the label that most of its annotators chose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    """Return the label of each labelled task, as the newest round has decided it.

    Args:
        store: Holds the decisions of the newest round.
        project_id: The project.
        annotations: All annotations, oldest change first; those of waiting webhooks may be among them.
        classes: The classes of the labeling config.

    Returns:
        The label, by task.
    """
    return resolve_labels(annotations, classes, store.resolved_disagreements(project_id))


def labels_of(
    store: Store, project_id: int, task_ids: Collection[int], classes: Sequence[str]
) -> dict[int, str]:
    """Return the label of each of these tasks that has one, as `current_labels` does of all."""
    annotations = store.annotations_of(project_id, task_ids)
    return resolve_labels(annotations, classes, store.resolved_disagreements(project_id))


def resolve_labels(
    annotations: Sequence[Annotation],
    classes: Sequence[str],
    resolved: Mapping[int, ResolvedDisagreement],
) -> dict[int, str]:
    """Return the label of each labelled task: the decision of a round, or else the choice of most annotators.

    Only the annotations that `counted_annotations` returns count. Of labels chosen equally often, the newest counts.

    Args:
        annotations: All annotations, oldest change first.
        classes: The classes of the labeling config.
        resolved: The decisions of `weigh_disagreements`, by task. A decision is ignored once its task has other votes,
            or its label is no longer in the labeling config.

    Returns:
        The label, by task.
    """
    counted = counted_annotations(annotations, classes)
    votes = votes_by_task(annotation for annotation in counted if annotation.task_id in resolved)
    still = {
        task_id: found.label
        for task_id, found in resolved.items()
        if votes.get(task_id) == found.votes and _is_known(found.label, {*classes})
    }
    return _majority(counted) | still


@dataclass(frozen=True)
class WeighedVotes:
    """The votes of several annotators, weighed; all empty while nobody disagrees."""

    resolved: dict[int, ResolvedDisagreement] = field(default_factory=dict)
    """The decision for each task with a disagreement."""
    quality: dict[str, float] = field(default_factory=dict)
    """How often each annotator is right, as it is estimated; by id, as text."""
    second_labels: tuple[int, ...] = ()
    """The tasks with a label of which one more would tell most, those first that tell most."""


def weigh_disagreements(
    counted: Sequence[Annotation],
    row_of: Mapping[int, int],
    pool: Rows,
    classifier: Classifier,
) -> WeighedVotes:
    """Decide the label of each task whose annotators disagree by how reliable each annotator is.

    The method is CROWDLAB (arXiv:2210.06812), and where a crop may have several classes CROWDLAB of each class. Without a
    disagreement it costs nothing. A classifier that is trained whole would take minutes to predict the crops: then the result is
    empty, and the majority counts.

    Args:
        counted: The result of `counted_annotations`, oldest change first.
        row_of: The pool row of each task that has one; other tasks are left out.
        pool: (n, d) embeddings.
        classifier: The project's classifier; its out-of-fold prediction is one more vote.

    Returns:
        The decisions, how often each annotator is right, and the tasks that are worth a second label.
    """
    from everylabel.model.label_quality import find_consensus, find_set_consensus  # noqa: PLC0415 - takes long to load

    votes = votes_by_task(annotation for annotation in counted if annotation.task_id in row_of)
    disagreements = [task_id for task_id, given in votes.items() if len(set(given.values())) > 1]
    if not disagreements or not weighs_votes(classifier):
        return WeighedVotes()
    tasks = sorted(votes)
    annotators = sorted({annotator for given in votes.values() for annotator in given})
    weigh = find_consensus if classifier.closed_form else find_set_consensus
    found = weigh(
        [[votes[task_id].get(annotator) for task_id in tasks] for annotator in annotators],
        annotators,
        pool[np.asarray([row_of[task_id] for task_id in tasks], dtype=np.intp)],
        classifier=classifier.fresh().adapt(pool),
    )
    labels = {tasks[crop.index]: crop.label for crop in found.crops}
    return WeighedVotes(
        resolved={
            task_id: ResolvedDisagreement(labels[task_id], votes[task_id]) for task_id in disagreements
        },
        quality=found.quality,
        second_labels=tuple(tasks[index] for index in found.second_labels),
    )


def weighs_votes(classifier: Classifier) -> bool:
    """Return whether the votes of a project with this classifier are weighed; where it is trained whole, the majority counts."""
    return classifier.closed_form or classifier.several


def counted_annotations(annotations: Iterable[Annotation], classes: Sequence[str]) -> list[Annotation]:
    """Return the annotations in which a person chose a class of the labeling config, in their order.

    Left out are skipped and empty annotations, choices that are no longer in the labeling config, and pre-annotations
    accepted in bulk, which are the machine's.
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

    They were skipped, accepted in bulk, or submitted without a class of the labeling config. Label Studio 1.23.2 never
    serves a task to somebody who has annotated it, even without a class, and an empty annotation completes it.
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


def votes_by_task(counted: Iterable[Annotation]) -> dict[int, dict[str, str]]:
    """Return the newest choice of each annotator, by task and annotator."""
    votes: dict[int, dict[str, str]] = {}
    for annotation in counted:
        annotator = "nobody" if annotation.annotator is None else str(annotation.annotator)
        votes.setdefault(annotation.task_id, {})[annotator] = str(annotation.choice)
    return votes


def _is_known(label: str, allowed: set[str]) -> bool:
    """Return whether each class of a label is among those allowed; a label may be a set of classes."""
    return label in allowed or {*label_set.split(label)} <= allowed
