"""Pseudo-labels by agreement: a linear head and the pool's neighbour graph say the same of a crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.classifiers.calibration import SCALES, can_be_left_out
from everylabel.model.classifiers.class_weights import balanced
from everylabel.model.classifiers.embedding import choose_penalty
from everylabel.model.classifiers.logistic import log_loss
from everylabel.model.classifiers.ridge import fit_ridge
from everylabel.model.label_quality.folds import stratified_folds
from everylabel.model.pseudo_labels.base import PseudoLabelQuery, PseudoLabelRule, TrainingPseudoLabels
from everylabel.model.pseudo_labels.pool_graph import PoolGraph
from everylabel.model.threads import single_threaded
from everylabel.model.vectors import project

CHECK_FOLDS = 5
# Enough to compare two heads out of fold; the head itself is trained on all dimensions.
CHECK_DIM = 256
MOST = 800
# All pseudo-labels together weigh this many times what the labels weigh.
TOTAL_WEIGHT = 2.0


@dataclass(frozen=True)
class AgreedLabels:
    """Crops whose class a linear head and the graph agree on, and whether training on them is worth it."""

    indices: NDArray[Any]
    """(a,) pool indices; of a class that has many, a random sample."""
    codes: NDArray[Any]
    """(a,) columns of the classes they are taken for."""
    weights: NDArray[Any]
    """(a,) each class weighs the same; a label of a person weighs 1, and each of these less."""
    accepted: bool
    """Out-of-fold log loss on the labels of people does not rise when trained on such pseudo-labels."""
    scores: NDArray[Any]
    """(n, k) out-of-fold scores of the labels of people, when trained so: what calibration may believe."""


class AgreementRule(PseudoLabelRule):
    """Takes the crops whose class a linear head and the pool's neighbour graph agree on.

    None are taken where out-of-fold loss on the labels of people would rise, nor with a classifier that has no
    graph.
    """

    name = "agreement"
    needs_scores = False

    def select(self, query: PseudoLabelQuery) -> TrainingPseudoLabels:
        """Choose all that agree; of a class that has many, a random sample."""
        graph = query.graph()
        if graph is None:
            return TrainingPseudoLabels()
        found = agreed_labels(
            graph,
            graph.positions(query.labels),
            np.searchsorted(query.classes, list(query.labels.values())),
            np.flatnonzero(query.free[graph.rows]),
            query.predict(graph.rows),
            len(query.classes),
            seed=query.seed,
        )
        if not found.accepted:
            return TrainingPseudoLabels()
        return TrainingPseudoLabels(
            tuple(found.indices.tolist()),
            tuple(query.classes[code] for code in found.codes),
            found.weights,
            found.scores,
        )


def agreed_labels(
    graph: PoolGraph,
    labeled: NDArray[Any],
    codes: NDArray[Any],
    candidates: NDArray[Any],
    predicted: NDArray[Any],
    n_classes: int,
    *,
    seed: int = 0,
) -> AgreedLabels:
    """Take every candidate whose class under the head is its class by label propagation.

    The two are structurally different, as in co-training (Blum and Mitchell 1998): a threshold on one head's
    confidence adds the crops it needs least. For acceptance the same is done without each fold of the labels in
    turn, and tested on that fold.

    Args:
        graph: the pool's neighbour graph, of m crops.
        labeled: (n,) positions of the labelled crops in the graph.
        codes: (n,) their classes.
        candidates: positions that may be pseudo-labelled.
        predicted: (m,) the head's class of every crop in the graph.
        n_classes: k.
        seed: deals the labels into folds, and picks from a class that has many.
    """
    with single_threaded():
        folds = stratified_folds(codes, CHECK_FOLDS, seed)
        # One column a class: first from all labels, then without each fold.
        seeds = np.zeros((len(graph.rows), (CHECK_FOLDS + 1) * n_classes), dtype=np.float32)
        for number in range(CHECK_FOLDS + 1):
            used = folds != number - 1
            weight = balanced(codes[used], np.ones(int(used.sum()))) if used.any() else np.zeros(0)
            seeds[labeled[used], number * n_classes + codes[used]] = weight
        spread = graph.propagate(seeds).reshape(len(graph.rows), CHECK_FOLDS + 1, n_classes)
        chosen, weights = _agreeing(predicted, spread[:, 0], candidates, len(codes), n_classes, seed)
        alone, helped = _out_of_fold(graph, labeled, codes, candidates, spread, folds, seed)
    usable = can_be_left_out(codes)
    fair = balanced(codes, np.ones(len(codes))) * usable
    accepted = (
        len(chosen) > 0 and usable.sum() >= 4 and _loss(helped, codes, fair) <= _loss(alone, codes, fair)
    )
    return AgreedLabels(graph.rows[chosen], predicted[chosen], weights, accepted, helped)


def _agreeing(
    predicted: NDArray[Any],
    spread: NDArray[Any],
    candidates: NDArray[Any],
    n_labels: int,
    n_classes: int,
    seed: int,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the positions that agree, at most MOST and as evenly over the classes as they come, and their weights."""
    reached = candidates[spread[candidates].max(axis=1) > 0]
    agreeing = reached[spread[reached].argmax(axis=1) == predicted[reached]]
    agreeing = np.random.default_rng(seed).permutation(agreeing)
    order = np.argsort(predicted[agreeing], kind="stable")
    counts = np.bincount(predicted[agreeing], minlength=n_classes)
    turn = np.empty(len(agreeing), dtype=np.intp)
    turn[order] = np.arange(len(agreeing)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.sort(agreeing[np.argsort(turn, kind="stable")[:MOST]])
    if not len(chosen):
        return chosen, np.zeros(0)
    weight = balanced(predicted[chosen], np.full(len(chosen), TOTAL_WEIGHT * n_labels / len(chosen)))
    return chosen, np.minimum(weight, 0.9)


def _out_of_fold(
    graph: PoolGraph,
    labeled: NDArray[Any],
    codes: NDArray[Any],
    candidates: NDArray[Any],
    spread: NDArray[Any],
    folds: NDArray[Any],
    seed: int,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the scores of every label from heads without its fold: trained on labels alone, and with pseudo-labels."""
    n_classes = spread.shape[2]
    x = project(graph.features, CHECK_DIM)
    penalty, _ = choose_penalty(x[labeled], codes, n_classes, None)
    alone, helped = np.zeros((len(codes), n_classes)), np.zeros((len(codes), n_classes))
    for fold in range(CHECK_FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if not len(test) or len(np.unique(codes[train])) < 2:
            continue
        known, weight = labeled[train], balanced(codes[train], np.ones(len(train)))
        weights, bias = fit_ridge(x[known], codes[train], n_classes, weight=weight, penalty=penalty)
        scores = x @ weights + bias
        alone[test] = scores[labeled[test]]
        predicted = scores.argmax(axis=1)
        chosen, extra = _agreeing(predicted, spread[:, fold + 1], candidates, len(train), n_classes, seed)
        weights, bias = fit_ridge(
            np.concatenate([x[known], x[chosen]]),
            np.concatenate([codes[train], predicted[chosen]]),
            n_classes,
            weight=np.concatenate([weight, extra]),
            penalty=penalty,
        )
        helped[test] = x[labeled[test]] @ weights + bias
    return alone, helped


def _loss(scores: NDArray[Any], codes: NDArray[Any], weight: NDArray[Any]) -> float:
    """Return the weighted log loss under the scale that suits these scores best: heads differ in how far they spread."""
    return min(float(weight @ log_loss(scores * scale, codes)) for scale in SCALES)
