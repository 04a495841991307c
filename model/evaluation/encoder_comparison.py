"""Compare encoders by the labels of one project: how often a head on the rows of each is right, out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from everylabel.model.classifiers.base import Classifier
from everylabel.model.label_quality.folds import out_of_fold_probabilities, stratified_folds
from everylabel.model.pool import Rows

N_FOLDS = 5
REPEATS = 5
N_STRATA = 4
"""Strata of confidence, each with a quarter of the pool."""
LEAST_LABELS = 25
"""With fewer, luck decides."""
LEAST_OF_A_CLASS = 2
"""A class with one label cannot be predicted out of fold."""
CONFIDENCE = 0.9
"""Of the interval of a difference."""
OF_CONFIDENCE = 1 / 3
"""How much of a difference in confidence a switch brings, by 864 replays."""
REACH = 0.045
"""Half the interval of that: it held the truth in 90 % of the replays with 50 labels, and more often with 25 and 100."""
LEAST_CLEAR = 0.02
"""Smaller differences are never clear."""


@dataclass(frozen=True)
class EncoderScores:
    """Balanced accuracy on the labelled crops, each predicted by a head that has not seen its label."""

    balanced_accuracy: float
    """The mean over classes, from 0 to 1."""
    low: float
    high: float
    """95 % confidence."""


@dataclass(frozen=True)
class Gain:
    """The change of balanced accuracy that another encoder would bring, and whether the labels show it."""

    points: float
    """From -100 to 100."""
    low: float
    high: float
    """90 % confidence."""
    is_clear: bool
    """Whether the labels speak for one of the two: the interval leaves 0 out, and the confidence in the right classes differs
    too (95 %), the same way. With crops drawn from the pool: two points or more, and the labels say the same (95 %, one side).
    """


@dataclass(frozen=True)
class OutOfFold:
    """Predictions of the n labelled crops by heads on one encoder's rows, averaged over repeated folds."""

    codes: NDArray[Any]
    """(n,) the class of each crop, as a number."""
    correct: NDArray[Any]
    """(n,) the share of repeats in which the crop was right."""
    log_loss: NDArray[Any]
    """(n,) the mean of -log p of its class."""
    confidence: NDArray[Any]
    """(n,) the mean probability of the predicted class."""

    def scores(self) -> EncoderScores:
        """Return the balanced accuracy, with an interval by the spread of crops within their classes."""
        mean, error = _balanced(self.correct, self.codes, np.ones(len(self.codes)))
        reach = float(stats.norm.ppf(0.975)) * error
        return EncoderScores(mean, max(0.0, mean - reach), min(1.0, mean + reach))

    def gain(
        self,
        other: OutOfFold,
        pool_confidence: NDArray[Any] | None = None,
        others_confidence: NDArray[Any] | None = None,
    ) -> Gain:
        """Return what `other` would change.

        Without crops drawn from the pool, crop by crop: what both get wrong says nothing about which is better. With them, by
        how much more confident its model is of them: people were asked about the crops that the model in use knows least of,
        which speaks against its encoder on each of them. The labels, weighted until this encoder's model is as confident of
        them as of the pool, then only say whether the difference is clear
        (`python -m everylabel.scripts.benchmarks.measure_encoder_advice`).

        Args:
            other: of the same crops in the same order, on another encoder's rows.
            pool_confidence: (m,) how confident this encoder's model of all labels is of crops drawn from the pool by chance;
                None if the labelled ones were drawn by chance.
            others_confidence: (m,) the same of the other encoder's model.
        """
        weights: NDArray[Any] = np.ones(len(self.codes))
        if pool_confidence is not None and others_confidence is not None:
            weights = _as_confident_as(self.confidence, pool_confidence)
            points = OF_CONFIDENCE * float(others_confidence.mean() - pool_confidence.mean())
            loss, loss_error = _balanced(self.log_loss - other.log_loss, self.codes, weights)
            agrees = np.sign(points) * loss > float(stats.norm.ppf(0.95)) * loss_error
            is_clear = bool(agrees and abs(points) >= LEAST_CLEAR)
            return Gain(100 * points, 100 * (points - REACH), 100 * (points + REACH), is_clear)
        mean, error = _balanced(other.correct - self.correct, self.codes, weights)
        reach = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * error
        loss, loss_error = _balanced(self.log_loss - other.log_loss, self.codes, weights)
        loss_differs = abs(loss) > float(stats.norm.ppf(0.975)) * loss_error
        is_clear = bool(loss_differs and loss * mean > 0 and abs(mean) > reach)
        return Gain(100 * mean, 100 * (mean - reach), 100 * (mean + reach), is_clear)


def predict_out_of_fold(
    classifier: Classifier, labelled: Rows, labels: Sequence[str], *, seed: int = 0
) -> OutOfFold:
    """Predict every labelled crop by heads that have not seen its label, over repeated stratified folds.

    Args:
        classifier: adapted to the pool; fresh copies of it are fitted.
        labelled: (n, d) rows of the labelled crops.
        labels: their n class names, each at least twice.
        seed: deals the folds; the same for every encoder, so that they are compared on the same ones.

    Raises:
        ValueError: a class has a single label, or there is only one class.
    """
    classes, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    if len(classes) < 2 or np.bincount(codes).min() < LEAST_OF_A_CLASS:
        raise ValueError("Each class needs two labels, and there have to be two classes.")
    correct = np.zeros(len(codes))
    log_loss = np.zeros(len(codes))
    confidence = np.zeros(len(codes))
    for repeat in range(REPEATS):
        folds = stratified_folds(codes, N_FOLDS, seed + repeat)
        found = out_of_fold_probabilities(classifier, labelled, labels, [str(c) for c in classes], folds)
        correct += found.argmax(axis=1) == codes
        confidence += found.max(axis=1)
        log_loss -= np.log(np.clip(found[np.arange(len(codes)), codes], 1e-3, None))
    return OutOfFold(codes, correct / REPEATS, log_loss / REPEATS, confidence / REPEATS)


def _as_confident_as(confidence: NDArray[Any], pool: NDArray[Any]) -> NDArray[Any]:
    """Return (n,) weights of labelled crops, by which their confidences are distributed as those of the pool."""
    edges = np.quantile(pool, np.linspace(0, 1, N_STRATA + 1)[1:-1])
    of_pool = np.bincount(np.searchsorted(edges, pool), minlength=N_STRATA) / len(pool)
    stratum = np.searchsorted(edges, confidence)
    # One label more in each stratum: one that holds none or one is not taken at its word.
    of_labels = (np.bincount(stratum, minlength=N_STRATA) + 1) / (len(confidence) + N_STRATA)
    weights: NDArray[Any] = (of_pool / of_labels)[stratum]
    # None is like any crop of the pool where all of the pool is one stratum, and every label in another.
    return np.asarray(weights / weights.mean()) if weights.any() else np.ones(len(weights))


def _balanced(values: NDArray[Any], codes: NDArray[Any], weights: NDArray[Any]) -> tuple[float, float]:
    """Return the mean of the classes' weighted means of (n,) values, and its standard error."""
    counts = np.bincount(codes).astype(float)
    shares = weights / np.bincount(codes, weights=weights)[codes]
    means = np.bincount(codes, weights=shares * values)
    # One variance for all classes, within them: a class of two labels has no spread of its own worth the name.
    within = float((weights * (values - means[codes]) ** 2).sum() / weights.sum())
    # Where all are right, or alike, the next one may be otherwise.
    within = max(within * len(values) / max(1, len(values) - len(counts)), 1 / (len(values) + 2))
    return float(means.mean()), float(np.sqrt(within * (shares**2).sum()) / len(counts))
