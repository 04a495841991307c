"""How good the model is, honestly: the blind check set and its interval.

Labels chosen by a query strategy are a biased sample, and accuracy on them means nothing. Check crops are
sampled uniformly and shown without a pre-annotation; accuracy is counted on them alone, by models that did not
train on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv
from scipy.stats import binomtest

from everylabel.model.classifiers.base import Classifier
from everylabel.model.label_quality.folds import out_of_fold_probabilities
from everylabel.model.pool import Rows

if TYPE_CHECKING:
    from everylabel.model.earlier_model import Comparison


@dataclass(frozen=True)
class CheckSetEstimate:
    """Accuracy on the check set with its 95 % interval, `accuracy_interval`."""

    correct: int
    n: int
    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class CheckPredictions:
    """How labelled check crops are predicted by models that were not trained on them; there is at least one."""

    confidences: NDArray[Any]
    """(c,) the probability of the most probable class."""
    right: NDArray[Any]
    """(c,) bool: that class is the label."""

    def counted(self) -> CheckSetEstimate:
        """Return the plain count, with its interval."""
        correct, n = int(self.right.sum()), len(self.right)
        return CheckSetEstimate(correct, n, correct / n, *accuracy_interval(correct, n))


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval (1927) for a proportion: (low, high), or (0, 1) where nothing was counted.

    Raises:
        ValueError: `correct` does not lie between 0 and `n`.
    """
    if not 0 <= correct <= n:
        raise ValueError(f"correct must lie between 0 and n, got {correct} of {n}")
    if n == 0:
        return 0.0, 1.0
    found = binomtest(correct, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(found.low), float(found.high)


def accuracy_interval(correct: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval, its far end set by a Poisson bound where almost all or none are correct.

    The modification of Brown, Cai and DasGupta 2001, "Interval estimation for a binomial proportion": with 15
    check crops and a true accuracy of 0.99, Wilson's own interval misses the truth one time in ten.
    """
    low, high = wilson_interval(correct, n)
    rare = 2 if n <= 50 else 3
    if 1 <= correct <= rare:
        low = min(low, float(gammaincinv(correct, 0.05)) / n)
    if 1 <= n - correct <= rare:
        high = max(high, 1 - float(gammaincinv(n - correct, 0.05)) / n)
    return low, high


def check_crops_wanted(n_labels: int, batch_size: int, share: float) -> int:
    """Return how many check crops are due by the time this batch is labelled: `share` of all labels, rounded down."""
    return math.floor(share * (n_labels + batch_size) + 1e-9)


def predict_check_crops(
    classifier: Classifier,
    x: Rows,
    labels: Sequence[str],
    is_check: NDArray[Any],
    seed: int = 0,
    *,
    comparison: Comparison | None = None,
) -> CheckPredictions | None:
    """Predict check crops by cross-fitting: each by a model trained on all labels but those of its fold.

    Args:
        classifier: what is trained, on a fresh copy for each fold.
        x: (n, ...) labelled rows.
        labels: their n class names.
        is_check: (n,) bool: which of them are check crops.
        seed: deals the check labels into folds.
        comparison: with an earlier model that has a say: its share, too, is then chosen without the labels of the fold.

    Returns:
        None where there is no check label, or nothing to train on without them, or where one class alone makes
        every answer right.
    """
    check = np.flatnonzero(is_check)
    if not len(check) or len(set(labels)) < 2:
        return None
    n_folds = min(classifier.folds, len(check))
    folds = np.full(len(labels), -1, dtype=np.intp)
    folds[check] = np.random.default_rng(seed).permutation(len(check)) % n_folds
    if (folds == 0).all():
        return None
    classes = sorted(set(labels)) if comparison is None else comparison.classes
    found = out_of_fold_probabilities(classifier, x, labels, classes, folds)
    if comparison is not None:
        found = comparison.mix(found, folds)
    predicted = found[check]
    names = np.asarray(classes, dtype=object)[predicted.argmax(axis=1)]
    right = np.asarray([name == labels[row] for name, row in zip(names, check, strict=True)])
    return CheckPredictions(predicted.max(axis=1), right)
