"""Several annotators on one crop: what the label is, and whose labels to trust."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cleanlab.multiannotator import get_active_learning_scores, get_label_quality_multiannotator
from numpy.typing import NDArray

from everylabel.model.classifiers.base import Classifier
from everylabel.model.label_quality.label_errors import predict_out_of_sample
from everylabel.model.pool import Rows


@dataclass(frozen=True)
class CropConsensus:
    """The label of one crop and how probable it is that it is right."""

    index: int
    label: str
    quality: float
    n_annotators: int


@dataclass(frozen=True)
class Consensus:
    """The labels of several annotators, weighed.

    Attributes:
        crops: the crops that somebody labelled, by ascending index.
        quality: how often each annotator is right, estimated from others and from a model that has not seen the crops
            (CROWDLAB, 2210.06812); empty where there is nothing to weigh.
        second_labels: the same crops as indices, those first of which one more label would tell most (ActiveLab,
            2301.11856); empty where there is nothing to weigh.
    """

    crops: list[CropConsensus]
    quality: dict[str, float] = field(default_factory=dict)
    second_labels: list[int] = field(default_factory=list)


def find_consensus(
    votes: Sequence[Sequence[str | None]],
    annotators: Sequence[str],
    x: Rows,
    *,
    classifier: Classifier | None = None,
    smoothed: NDArray[Any] | None = None,
    seed: int = 0,
) -> Consensus:
    """Weigh annotators and a model that has not seen the crop by how reliable each is (CROWDLAB, 2210.06812).

    Where all annotators of a crop agree their label stays. With one class, or no crop that two annotators
    labelled, there is nothing to weigh: labels stay and every quality is NaN.

    Args:
        votes: one row an annotator, one column a crop of `x`, None where that annotator did not label it.
        annotators: their names, one a row of `votes`.
        x: (n, ...) rows of the crops.
        classifier: as in `audit_labels`.
        smoothed: as in `audit_labels`.
        seed: as in `audit_labels`.

    Returns:
        The labels, and whom and what to trust.

    Raises:
        ValueError: the shapes do not fit.
    """
    labelled, chosen = votes_by_crop(votes, len(annotators), len(x))
    majority = [most_frequent(given) for given in chosen]
    classes = sorted({vote for given in chosen for vote in given})
    active = [number for number, row in enumerate(votes) if any(vote is not None for vote in row)]
    if len(classes) < 2 or max((len(given) for given in chosen), default=0) < 2:
        undisputed = zip(labelled, majority, chosen, strict=True)
        return Consensus(
            [CropConsensus(crop, label, float("nan"), len(given)) for crop, label, given in undisputed]
        )
    table = _vote_table([votes[row] for row in active], labelled, classes)
    rows = np.asarray(labelled, dtype=np.intp)
    probabilities = predict_out_of_sample(
        x[rows],
        majority,
        classes,
        classifier=classifier,
        smoothed=None if smoothed is None else smoothed[rows],
        seed=seed,
    )
    names = [annotators[row] for row in active]
    return _weighed(table, probabilities.astype(np.float64), labelled, chosen, classes, names)


@dataclass(frozen=True)
class WeighedTable:
    """A table of votes, weighed: one entry a crop, in its order, or an annotator."""

    codes: NDArray[Any]
    """(n,) int, the code of the class that is decided on."""
    quality: NDArray[Any]
    """(n,) how probable it is that this is right."""
    annotator_quality: NDArray[Any]
    """(annotators,) how often each is right."""
    scores: NDArray[Any]
    """(n,) ActiveLab's: the lower, the more one more label would tell."""


def weigh(table: NDArray[Any], probabilities: NDArray[Any]) -> WeighedTable:
    """Weigh annotators and a model by how reliable each is (CROWDLAB), and say where one more label tells most (ActiveLab).

    Args:
        table: (n, annotators) class codes; NaN where an annotator said nothing.
        probabilities: (n, classes) of a model that has not seen the crops.
    """
    weighed = get_label_quality_multiannotator(
        table, probabilities, return_detailed_quality=False, verbose=False
    )
    by_crop, by_annotator = weighed["label_quality"], weighed["annotator_stats"]["annotator_quality"]
    scores, _ = get_active_learning_scores(table, probabilities)
    return WeighedTable(
        by_crop["consensus_label"].to_numpy().astype(int),
        by_crop["consensus_quality_score"].to_numpy(),
        np.array([by_annotator.loc[number] for number in range(table.shape[1])]),
        np.asarray(scores),
    )


def _weighed(
    table: NDArray[Any],
    probabilities: NDArray[Any],
    labelled: Sequence[int],
    chosen: Sequence[Sequence[str]],
    classes: Sequence[str],
    names: Sequence[str],
) -> Consensus:
    """Weigh a table of votes, (crops, annotators), given (crops, classes) probabilities of a model that has not seen them."""
    weighed = weigh(table, probabilities)
    # cleanlab may overrule annotators who all agree; a person's uncontradicted word stands.
    labels = [
        given[0] if len(set(given)) == 1 else classes[int(code)]
        for given, code in zip(chosen, weighed.codes, strict=True)
    ]
    return Consensus(
        crops=[
            CropConsensus(crop, label, float(score), len(given))
            for crop, label, score, given in zip(labelled, labels, weighed.quality, chosen, strict=True)
        ],
        quality={name: float(weighed.annotator_quality[number]) for number, name in enumerate(names)},
        second_labels=[labelled[row] for row in np.argsort(weighed.scores, kind="stable")],
    )


def votes_by_crop(
    votes: Sequence[Sequence[str | None]], n_annotators: int, n_crops: int
) -> tuple[list[int], list[list[str]]]:
    """Return the crops that somebody has labelled, and the labels given of each.

    Raises:
        ValueError: votes are not one row an annotator and one column a crop.
    """
    if len(votes) != n_annotators or any(len(row) != n_crops for row in votes):
        raise ValueError(
            f"votes need a row for each of {n_annotators} annotators and a column for each of {n_crops} "
            f"crops: got {len(votes)} rows of {sorted({len(row) for row in votes})} columns"
        )
    labelled = [crop for crop in range(n_crops) if any(row[crop] is not None for row in votes)]
    return labelled, [[vote for row in votes if (vote := row[crop]) is not None] for crop in labelled]


def _vote_table(
    votes: Sequence[Sequence[str | None]], crops: Sequence[int], classes: Sequence[str]
) -> NDArray[Any]:
    """Return what each annotator said of each crop, as (crops, annotators) class codes; NaN where nothing."""
    column = {name: number for number, name in enumerate(classes)}
    table = np.full((len(crops), len(votes)), np.nan)
    for position, crop in enumerate(crops):
        for number, row in enumerate(votes):
            vote = row[crop]
            if vote is not None:
                table[position, number] = column[vote]
    return table


def most_frequent(given: Sequence[str]) -> str:
    """Return the label given most often; of equals the first by name, whoever came first."""
    counts = Counter(given)
    return min(counts, key=lambda name: (-counts[name], name))
