"""How often the model in use is right on the crops that nobody has labelled, with an interval.

Three things are put together. What the calibrated confidences of those crops say; how far they may be off on a set of
crops nobody has seen before, which replays of labelling on many sets showed; and the blind check crops, by which this
set's own shift is estimated: a random effect in log odds with a normal prior, the same for all crops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, logit
from scipy.stats import binom

from everylabel.model.classifiers.confidence import shifted
from everylabel.model.evaluation.check_set import CheckPredictions, CheckSetEstimate

Z = 1.96
"""Standard deviations to either side that hold 95 % of a normal distribution."""
SPREAD = 0.35
"""Prior standard deviation of the shift, in log odds, for the estimate."""
WIDE_SPREAD = 0.75
"""The same for the interval at 50 labels: wide enough for a person who stops at the first figure they like."""
UNCALIBRATED = 2.0
"""How many times wider both are where confidence has not been calibrated by replays."""
PADDING = 0.01
"""What the interval has beyond its model on either side: on easy sets all confidences are off together."""
IMPROBABLE = 0.005
"""Below this probability, the blind check crops contradict the estimate."""
MIN_LABELS = 10
"""Below this no replay says how far confidences are off."""
AT_MOST = 20_000
MIN_CROPS = 10
"""A class, or a confusion of two, that fewer crops are expected of is passed over."""
CLASS_FACTOR = 1.25
"""How many times wider the shift of a single class is than that of the whole."""
MOST_CONFUSIONS = 5
LEAST_CONFUSED = 0.02
_GRID = np.linspace(-4, 4, 161)
_BINS = 15


@dataclass(frozen=True)
class Share:
    """A share from 0 to 1 with its 95 % interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassAccuracy:
    """How a class fares among the crops nobody has labelled."""

    name: str
    recall: Share
    """Of the crops of this class, the share that is predicted to be of it."""
    precision: Share
    """Of the crops that are predicted to be of this class, the share that is."""


@dataclass(frozen=True)
class Confusion:
    """Crops of one class that the model takes for another."""

    name: str
    predicted: str
    share: float
    """Of the crops of class `name`."""
    crops: float
    """How many of those nobody has labelled."""


@dataclass(frozen=True)
class AccuracyEstimate:
    """The share of predictions that are right among the crops nobody has labelled, with its 95 % interval."""

    estimate: float
    low: float
    high: float
    n_crops: int
    """How many crops it is about."""
    check: CheckSetEstimate | None
    """The plain count on the blind check crops."""
    by_class: tuple[ClassAccuracy, ...] = ()
    """By name; without classes of which too few crops are left, or that have a single label."""
    confusions: tuple[Confusion, ...] = ()
    """The most frequent first."""

    @property
    def is_contradicted(self) -> bool:
        """True where so few or so many of the blind check crops are right that no accuracy within the interval explains it.

        An exact binomial test against either end. It is looked at after every label, and the models that predict the check
        crops know fewer labels than the one in use and no pseudo-labels: so it has to be improbable indeed.
        """
        if self.check is None:
            return False
        too_few = binom.cdf(self.check.correct, self.check.n, self.low)
        too_many = binom.sf(self.check.correct - 1, self.check.n, self.high)
        return bool(min(too_few, too_many) < IMPROBABLE)


def estimate_pool_accuracy(
    probabilities: NDArray[Any],
    classes: Sequence[str],
    n_labels: int,
    *,
    check: CheckPredictions | None = None,
    single_classes: Sequence[str] = (),
    calibrated: bool = True,
) -> AccuracyEstimate | None:
    """Estimate how often the best class of each crop is right.

    What is assumed: crops left are like those the labels came from, every class that occurs has a label, and the
    set's shift is one that the sets replayed could have had. With 33 pools in four groups, each group estimated by the
    other three and without blind check crops, the interval held the truth in 98 % of the runs at 50 labels, in 96 % at
    100, and in 99 % where a person stopped at the first estimate of 90 % or more
    (`python -m everylabel.scripts.benchmarks.learn_confidence --seeds 8`).

    Args:
        probabilities: (n, k) calibrated, of the crops nobody has labelled.
        classes: the names of the columns.
        n_labels: how many labels the model was trained on.
        check: how labelled check crops are predicted by models that have not seen them.
        single_classes: classes with one label: nothing is said of them alone.
        calibrated: whether confidence is that of a classifier in closed form, which replays calibrated.

    Returns:
        None with fewer than ten labels or two classes, or where no crop is left.
    """
    if n_labels < MIN_LABELS or len(classes) < 2 or not len(probabilities):
        return None
    n = len(probabilities)
    if n > AT_MOST:
        probabilities = probabilities[np.linspace(0, n - 1, AT_MOST).astype(np.intp)]
    wider = 1.0 if calibrated else UNCALIBRATED
    mean, _ = _shift(check, SPREAD * wider)
    _, spread = _shift(check, wider * WIDE_SPREAD * (50 / min(n_labels, 150)) ** 0.25)
    best = probabilities.max(axis=1).astype(np.float64)
    odds = logit(np.clip(best, 1e-6, 1 - 1e-6))
    low, estimate, high = (float(expit(odds + mean + by * Z * spread).mean()) for by in (-1, 0, 1))
    by_class, confusions = _by_class(probabilities, classes, n, mean, spread, single_classes)
    return AccuracyEstimate(
        *_share(estimate, low, high, n),
        n_crops=n,
        check=None if check is None else check.counted(),
        by_class=by_class,
        confusions=confusions,
    )


def _shift(check: CheckPredictions | None, spread: float) -> tuple[float, float]:
    """Return mean and standard deviation of the shift, in log odds, after what the check crops say."""
    log_posterior = -0.5 * (_GRID / spread) ** 2
    if check is not None and len(check.right):
        odds = logit(np.clip(check.confidences, 1e-4, 1 - 1e-4))[:, None] + _GRID
        log_posterior = log_posterior + np.where(check.right[:, None], log_expit(odds), log_expit(-odds)).sum(
            axis=0
        )
    posterior = np.exp(log_posterior - log_posterior.max())
    posterior /= posterior.sum()
    mean = float(posterior @ _GRID)
    return mean, math.sqrt(float(posterior @ (_GRID - mean) ** 2))


def _share(estimate: float, low: float, high: float, n: int) -> tuple[float, float, float]:
    """Widen an interval by what n crops differ by chance, and by the padding."""
    chance = Z * math.sqrt(max(estimate * (1 - estimate), 1e-4) / max(n, 1))
    return (
        estimate,
        max(0.0, estimate - math.hypot(estimate - low, chance) - PADDING),
        min(1.0, estimate + math.hypot(high - estimate, chance) + PADDING),
    )


def _by_class(
    probabilities: NDArray[Any],
    classes: Sequence[str],
    n: int,
    mean: float,
    spread: float,
    single_classes: Sequence[str],
) -> tuple[tuple[ClassAccuracy, ...], tuple[Confusion, ...]]:
    """Return what the expected counts of true by predicted class say, at the mean shift and at either end of it."""
    off = CLASS_FACTOR * Z * spread
    low, middle, high = (
        _counts(probabilities, mean + by) * (n / len(probabilities)) for by in (-off, 0.0, off)
    )
    found, confusions = [], []
    for code, name in enumerate(classes):
        of_class, predicted = float(middle[code].sum()), float(middle[:, code].sum())
        if name in single_classes or min(of_class, predicted) < MIN_CROPS:
            continue
        recalls = [float(counts[code, code] / counts[code].sum()) for counts in (middle, low, high)]
        precisions = [float(counts[code, code] / counts[:, code].sum()) for counts in (middle, low, high)]
        recall = Share(*_share(recalls[0], recalls[1], recalls[2], round(of_class)))
        precision = Share(*_share(precisions[0], precisions[1], precisions[2], round(predicted)))
        found.append(ClassAccuracy(name, recall, precision))
        confusions += [
            Confusion(name, other, float(crops / of_class), float(crops))
            for column, (other, crops) in enumerate(zip(classes, middle[code], strict=True))
            if column != code and crops >= MIN_CROPS and crops / of_class >= LEAST_CONFUSED
        ]
    confusions.sort(key=lambda confusion: -confusion.crops)
    return tuple(found), tuple(confusions[:MOST_CONFUSIONS])


def _counts(probabilities: NDArray[Any], shift: float) -> NDArray[Any]:
    """Return (k, k) expected counts: rows are true classes, columns predicted ones."""
    moved = shifted(probabilities, shift)
    predicted = probabilities.argmax(axis=1)
    return np.stack(
        [moved[predicted == code].sum(axis=0, dtype=np.float64) for code in range(probabilities.shape[1])],
        axis=1,
    )


def calibration_error(confidences: NDArray[Any], right: NDArray[Any]) -> float:
    """Return the expected calibration error of (n,) confidences in 15 bins of equal width (Guo et al. 2017)."""
    bins = np.minimum((confidences * _BINS).astype(np.intp), _BINS - 1)
    gap = np.bincount(bins, weights=confidences - right, minlength=_BINS)
    return float(np.abs(gap).sum() / len(confidences))
