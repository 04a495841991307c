"""Pseudo-labels by agreement: a linear head and the pool's neighbour graph say the same of a crop."""

from __future__ import annotations

from collections.abc import Callable
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

CHECK_FOLDS = 5
MOST = 800


@dataclass(frozen=True)
class Weighing:
    """Weigh labels and pseudo-labels of a head."""

    total: float = 2.0
    """All pseudo-labels together weigh this many times what the labels weigh."""
    keeps_shares: bool = False
    """Whether classes weigh what they do among the labels, or all the same."""

    def of_labels(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Return the weights of labels of people: (n,) float."""
        alike = np.ones(len(codes))
        return alike if self.keeps_shares else balanced(codes, alike)

    def of_pseudo_labels(self, predicted: NDArray[Any], codes: NDArray[Any]) -> NDArray[Any]:
        """Return the weights of (a,) pseudo-labels beside (n,) labels of people: (a,) float, below 1."""
        weight = balanced(predicted, np.full(len(predicted), self.total * len(codes) / len(predicted)))
        if self.keeps_shares:
            share = np.bincount(codes, minlength=int(predicted.max()) + 1) / len(codes)
            weight = weight * share[predicted] * len(np.unique(predicted))
        return np.asarray(np.minimum(weight, 0.9))


ONE_CLASS = Weighing()
SEVERAL = Weighing(total=1.0, keeps_shares=True)
"""Of each class where a crop may have several: yes and no are then its classes, and no is mostly more frequent."""


@dataclass(frozen=True)
class AgreedLabels:
    """Crops whose class a linear head and the graph agree on, and whether training on them is worth it."""

    indices: NDArray[Any]
    """(a,) pool indices; of a class that has many, a random sample."""
    codes: NDArray[Any]
    """(a,) columns of the classes they are taken for."""
    weights: NDArray[Any]
    """(a,) each class weighs the same, or keeps its share; a label of a person weighs 1, and each of these less."""
    accepted: bool
    """Out-of-fold log loss on the labels of people does not rise when trained on such pseudo-labels.

    It is weighed as the head's labels are, and by class: a rare class counts as much as a frequent one.
    """
    scores: NDArray[Any]
    """(n, k) out-of-fold scores of the labels of people, when trained so: what calibration may believe."""


class AgreementRule(PseudoLabelRule):
    """Takes the crops whose class a linear head and the pool's neighbour graph agree on.

    None are taken where out-of-fold loss on the labels of people would rise, nor with a classifier that has no
    graph. Where a crop may have several classes, each of them is a question of its own, yes or no, and is accepted
    or not by itself.
    """

    name = "agreement"
    needs_scores = False

    def select(self, query: PseudoLabelQuery) -> TrainingPseudoLabels:
        """Choose all that agree; of a class that has many, a random sample."""
        graph = query.graph()
        if graph is None:
            return TrainingPseudoLabels()
        labeled, candidates = graph.positions(query.labels), np.flatnonzero(query.free[graph.rows])
        predicted = query.predict(graph.rows)
        if query.classes_in is not None:
            return _class_by_class(query, query.classes_in, graph, labeled, candidates, predicted)
        found = agreed_labels(
            graph,
            labeled,
            np.searchsorted(query.classes, list(query.labels.values())),
            candidates,
            predicted,
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


def _class_by_class(
    query: PseudoLabelQuery,
    classes_in: Callable[[str], tuple[str, ...]],
    graph: PoolGraph,
    labeled: NDArray[Any],
    candidates: NDArray[Any],
    predicted: NDArray[Any],
) -> TrainingPseudoLabels:
    """Choose pseudo-labels of each single class: a crop comes with its predicted set, and weighs where both agree."""
    given = [classes_in(label) for label in query.labels.values()]
    names = sorted({name for held in given for name in held})
    known = [classes_in(label) for label in query.classes]
    weights = np.zeros((len(graph.rows), len(names)))
    scores = np.full((len(given), len(names)), np.nan)
    for column, name in enumerate(names):
        codes = np.asarray([name in held for held in given], dtype=np.intp)
        if codes.all():
            continue
        holds = np.asarray([name in held for held in known], dtype=np.intp)[predicted]
        found = agreed_labels(graph, labeled, codes, candidates, holds, 2, weighing=SEVERAL, seed=query.seed)
        if found.accepted:
            weights[np.searchsorted(graph.rows, found.indices), column] = found.weights
            scores[:, column] = found.scores[:, 1] - found.scores[:, 0]
    used = np.flatnonzero(weights.any(axis=1))
    if not len(used):
        return TrainingPseudoLabels()
    return TrainingPseudoLabels(
        tuple(graph.rows[used].tolist()),
        tuple(query.classes[code] for code in predicted[used]),
        weights[used],
        scores,
    )


def agreed_labels(
    graph: PoolGraph,
    labeled: NDArray[Any],
    codes: NDArray[Any],
    candidates: NDArray[Any],
    predicted: NDArray[Any],
    n_classes: int,
    *,
    weighing: Weighing = ONE_CLASS,
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
        weighing: what pseudo-labels weigh beside the labels.
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
        chosen, weights = _agreeing(predicted, spread[:, 0], candidates, codes, weighing, seed)
        alone, helped = _out_of_fold(graph, labeled, codes, candidates, spread, folds, weighing, seed)
    usable = can_be_left_out(codes)
    # Where a head keeps the shares of its classes, neither all crops together nor a rare class may get worse.
    ways = (weighing.of_labels(codes) * usable, balanced(codes, np.ones(len(codes))) * usable)
    accepted = (
        len(chosen) > 0
        and usable.sum() >= 4
        and all(_loss(helped, codes, way) <= _loss(alone, codes, way) for way in ways)
    )
    return AgreedLabels(graph.rows[chosen], predicted[chosen], weights, accepted, helped)


def _agreeing(
    predicted: NDArray[Any],
    spread: NDArray[Any],
    candidates: NDArray[Any],
    codes: NDArray[Any],
    weighing: Weighing,
    seed: int,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return positions that agree, as evenly over the classes as they come, and their weights beside `codes`, (n,)."""
    reached = candidates[spread[candidates].max(axis=1) > 0]
    agreeing = reached[spread[reached].argmax(axis=1) == predicted[reached]]
    agreeing = np.random.default_rng(seed).permutation(agreeing)
    order = np.argsort(predicted[agreeing], kind="stable")
    counts = np.bincount(predicted[agreeing])
    turn = np.empty(len(agreeing), dtype=np.intp)
    turn[order] = np.arange(len(agreeing)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.sort(agreeing[np.argsort(turn, kind="stable")[:MOST]])
    if not len(chosen):
        return chosen, np.zeros(0)
    return chosen, weighing.of_pseudo_labels(predicted[chosen], codes)


def _out_of_fold(
    graph: PoolGraph,
    labeled: NDArray[Any],
    codes: NDArray[Any],
    candidates: NDArray[Any],
    spread: NDArray[Any],
    folds: NDArray[Any],
    weighing: Weighing,
    seed: int,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the scores of every label from heads without its fold: trained on labels alone, and with pseudo-labels."""
    n_classes = spread.shape[2]
    x = graph.reduced
    penalty, _ = choose_penalty(x[labeled], codes, n_classes, None)
    alone, helped = np.zeros((len(codes), n_classes)), np.zeros((len(codes), n_classes))
    for fold in range(CHECK_FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if not len(test) or len(np.unique(codes[train])) < 2:
            continue
        known, weight = labeled[train], weighing.of_labels(codes[train])
        weights, bias = fit_ridge(x[known], codes[train], n_classes, weight=weight, penalty=penalty)
        scores = x @ weights + bias
        alone[test] = scores[labeled[test]]
        predicted = scores.argmax(axis=1)
        chosen, extra = _agreeing(predicted, spread[:, fold + 1], candidates, codes[train], weighing, seed)
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
