"""Several annotators on one crop that may have several classes: whose word to take, class by class.

CROWDLAB and ActiveLab are of one class a crop. Here each class is a question of its own, yes or no, as it is to the classifier
(binary relevance; `everylabel.model.classifiers.multi_label`): its votes are weighed by them, against a model that has not
seen the crop. What they say of the classes becomes what is said of the crop:

- its label is the set of the classes that are weighed to be there;
- an annotator's quality is how often they give the whole set that is decided on, on crops that others labelled too;
- how much one more label would tell is the mean of what ActiveLab says of its classes. By the moving average, lowest last, that
  Thyagarajan et al. (2211.13895) pool the scores of one annotator's labels by, fewer of the first twenty of 200 crops had a wrong
  set, and by the lowest alone fewer still (`python -m tests.measure.set_consensus`, docs/learning-parts.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model import label_set
from everylabel.model.classifiers.base import Classifier
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.label_quality.consensus import (
    Consensus,
    CropConsensus,
    most_frequent,
    votes_by_crop,
    weigh,
)
from everylabel.model.label_quality.label_errors import predict_out_of_sample
from everylabel.model.pool import Rows

ABSENT, PRESENT = "absent", "present"


@dataclass(frozen=True)
class _Question:
    """The answers to one class, one entry a labelled crop."""

    present: NDArray[Any]
    """(n,) bool: True where the crop is decided to have it."""
    quality: NDArray[Any]
    """(n,) how probable it is that this is right."""
    score: NDArray[Any]
    """(n,) ActiveLab's: the lower, the more one more label would tell."""


def find_set_consensus(
    votes: Sequence[Sequence[str | None]],
    annotators: Sequence[str],
    x: Rows,
    *,
    classifier: Classifier | None = None,
    seed: int = 0,
) -> Consensus:
    """Weigh annotators and models that have not seen the crop, class by class, where a label is a set of classes.

    Of a class that all annotators of a crop agree on, their word stands. With one class, or no crop that two annotators
    labelled, there is nothing to weigh: labels stay and every quality is NaN.

    Args:
        votes: one row an annotator, one column a crop of `x`: a label set, or None where that annotator did not label it.
        annotators: their names, one a row of `votes`.
        x: (n, d) embeddings of the crops.
        classifier: one already adapted to the pool, whose space embeddings are compared in; by default that of `x`.
        seed: deals the labels into folds.

    Returns:
        The labels, and whom and what to trust.

    Raises:
        ValueError: the shapes do not fit.
    """
    labelled, chosen = votes_by_crop(votes, len(annotators), len(x))
    names = sorted({name for given in chosen for vote in given for name in label_set.split(vote)})
    if len(names) < 2 or max((len(given) for given in chosen), default=0) < 2:
        return Consensus(
            [
                CropConsensus(crop, most_frequent(given), math.nan, len(given))
                for crop, given in zip(labelled, chosen, strict=True)
            ]
        )
    active = [number for number, row in enumerate(votes) if any(vote is not None for vote in row)]
    held = _held([votes[row] for row in active], labelled, names)
    head = EmbeddingClassifier(seed=seed)
    if classifier is None or classifier.space is None:
        head.adapt(x)
    else:
        head.space = classifier.space
    rows = x[np.asarray(labelled, dtype=np.intp)]
    questions = [_ask(held[:, :, column], rows, head, seed) for column in range(len(names))]
    labels = _sets(questions, names, chosen)
    quality = np.prod([question.quality for question in questions], axis=0)
    scores = pool_scores(np.stack([question.score for question in questions], axis=1))
    return Consensus(
        crops=[
            CropConsensus(crop, label, float(score), len(given))
            for crop, label, score, given in zip(labelled, labels, quality, chosen, strict=True)
        ],
        quality=_annotator_quality(
            {annotators[row]: [votes[row][crop] for crop in labelled] for row in active}, labels, chosen
        ),
        second_labels=[labelled[row] for row in np.argsort(scores, kind="stable")],
    )


def pool_scores(scores: NDArray[Any]) -> NDArray[Any]:
    """Return one score for each crop, of those of its classes: (n, k) to (n,)."""
    return np.asarray(scores.mean(axis=1))


def _held(votes: Sequence[Sequence[str | None]], crops: Sequence[int], names: Sequence[str]) -> NDArray[Any]:
    """Return which classes each annotator gave to each crop: (crops, annotators, classes) 0 or 1, NaN where nothing."""
    held = np.full((len(crops), len(votes), len(names)), np.nan)
    for position, crop in enumerate(crops):
        for number, row in enumerate(votes):
            if (vote := row[crop]) is not None:
                given = {*label_set.split(vote)}
                held[position, number] = [name in given for name in names]
    return held


def _ask(table: NDArray[Any], x: Rows, head: EmbeddingClassifier, seed: int) -> _Question:
    """Weigh the votes on one class, (crops, annotators)."""
    share = np.nanmean(table, axis=1)
    majority = share > 0.5
    agreed = (share == 0) | (share == 1)
    if majority.all() or not majority.any():
        # Nothing tells such crops apart; a vote against all others is uncertain by itself.
        certain = np.abs(2 * share - 1)
        return _Question(majority, (1 + certain) / 2, (1 + certain) / 2)
    probabilities = predict_out_of_sample(
        x,
        np.where(majority, PRESENT, ABSENT),
        (ABSENT, PRESENT),
        classifier=head,
        seed=seed,
    )
    weighed = weigh(table, probabilities.astype(np.float64))
    return _Question(np.where(agreed, majority, weighed.codes == 1), weighed.quality, weighed.scores)


def _sets(questions: Sequence[_Question], names: Sequence[str], chosen: Sequence[Sequence[str]]) -> list[str]:
    """Return the label set of each crop; one of which no class is left has what most of its annotators gave."""
    present = np.stack([question.present for question in questions], axis=1)
    return [
        label_set.join(name for name, held in zip(names, row, strict=True) if held)
        if row.any()
        else most_frequent(given)
        for row, given in zip(present, chosen, strict=True)
    ]


def _annotator_quality(
    given: dict[str, list[str | None]], labels: Sequence[str], chosen: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Return how often each annotator gave the whole set that is decided on, of crops that others labelled too."""
    found = {}
    for name, own in given.items():
        same = [
            vote == label
            for vote, label, others in zip(own, labels, chosen, strict=True)
            if vote is not None and len(others) > 1
        ]
        if same:
            found[name] = sum(same) / len(same)
    return found
