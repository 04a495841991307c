"""A forecast of what more labels are worth: the learning curve so far, extrapolated with all its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_POINTS = 4
MIN_CHECK_LABELS = 5
STEP = 1.25
"""Points closer than a quarter more labels say the same twice."""


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy on the check set after `n_labels` labels: `correct` of `n` check crops."""

    n_labels: int
    correct: float
    n: int


@dataclass(frozen=True)
class Forecast:
    """The gain in accuracy expected of `more` labels, as shares: 0.012 is 1.2 points."""

    more: int
    gain: float
    low: float
    high: float
    """Eight in ten of the curves that fit lie between `low` and `high`."""


def forecast_gain(curve: Sequence[CurvePoint], more: int) -> Forecast | None:
    """Expect a gain from `more` labels.

    Errors are taken to fall as a power of the labels towards a floor (Figueroa et al. 2012, "Predicting sample
    size required for classification performance"). Every curve on a grid is weighed by how well it explains
    the check set, and the answer is their spread. The rounds test the same check crops again and again, so
    all of them together count as much as the newest one alone: the spread is rather too wide than too narrow.

    Args:
        curve: rounds with a check set, oldest first; labels may have been withdrawn in between.
        more: how many labels, at least 1.

    Returns:
        None while there are too few rounds or check labels to say anything.

    Raises:
        ValueError: `more` is below 1.
    """
    if more < 1:
        raise ValueError(f"more must be at least 1, got {more}")
    points = _thinned(curve)
    if len(points) < MIN_POINTS or points[-1].n < MIN_CHECK_LABELS:
        return None
    now = points[-1]
    error, floor, power = (
        axis.ravel()
        for axis in np.meshgrid(
            np.linspace(0.005, 0.995, 100),
            np.linspace(0.0, 1.0, 11),
            np.linspace(0.1, 1.5, 15),
            indexing="ij",
        )
    )
    weight = now.n / sum(point.n for point in points)
    log_likelihood = np.zeros(len(error))
    for point in points:
        wrong = np.minimum(_error_at(point.n_labels / now.n_labels, error, floor, power), 0.999)
        log_likelihood += weight * (
            point.correct * np.log1p(-wrong) + (point.n - point.correct) * np.log(wrong)
        )
    belief = np.exp(log_likelihood - log_likelihood.max())
    gain = error - _error_at(1 + more / now.n_labels, error, floor, power)
    low, high = _quantiles(gain, belief, (0.1, 0.9))
    return Forecast(more, float(np.average(gain, weights=belief)), low, high)


def _thinned(curve: Sequence[CurvePoint]) -> list[CurvePoint]:
    """Return points a step apart, from the newest back; oldest first."""
    kept: list[CurvePoint] = []
    for point in reversed(curve):
        if point.n > 0 and (not kept or point.n_labels * STEP <= kept[-1].n_labels):
            kept.append(point)
    return kept[::-1]


def _error_at(
    growth: float, error: NDArray[np.float64], floor: NDArray[np.float64], power: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the error at `growth` times the labels of now, of curves that have `error` now: (curves,)."""
    return np.asarray(error * (floor + (1 - floor) * growth**-power))


def _quantiles(
    values: NDArray[np.float64], weights: NDArray[np.float64], at: tuple[float, float]
) -> tuple[float, float]:
    order = np.argsort(values)
    cumulated = np.cumsum(weights[order]) / weights.sum()
    low, high = (float(values[order][np.searchsorted(cumulated, share)]) for share in at)
    return low, high
