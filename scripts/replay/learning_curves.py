"""Summaries of many replays: accuracy by number of labels, and the gain over random with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.scripts.replay.names import BASELINE
from everylabel.scripts.replay.replay import Curve

CHECKPOINTS = (5, 10, 25, 50, 100)


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its 95 % interval by Student's t; the bounds are NaN with one seed."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """One strategy on one data set. Accuracies are shares from 0 to 1."""

    data: str
    strategy: str
    encoder: str
    seeds: int
    n_labels: NDArray[Any]
    """(rounds,)"""
    curve: tuple[Interval, ...]
    """Balanced accuracy a round."""
    aulc: float
    """The mean of the balanced accuracy over all rounds."""
    gain: Interval
    """AULC minus random's, paired by seed."""
    gain_at: dict[int, Interval]
    """The same at single numbers of labels."""
    labels_saved: float
    rare_at_25: float
    """Labels of the rarest class among the first 25."""
    audit_auroc: float
    audit_precision: float
    """Of all labels listed in all seeds, the share that was flipped."""
    select_seconds: float

    @property
    def accuracy(self) -> dict[int, float]:
        """The mean balanced accuracy at the usual numbers of labels, and at the last."""
        wanted = {*CHECKPOINTS, int(self.n_labels[-1])}
        return {
            int(n): point.mean for n, point in zip(self.n_labels, self.curve, strict=True) if int(n) in wanted
        }

    def result(self) -> dict[str, Any]:
        """Return the entry of `results` in the JSON file."""
        return {
            "data": self.data,
            "strategy": self.strategy,
            "encoder": self.encoder,
            "seeds": self.seeds,
            "accuracy": {str(n): round(value, 5) for n, value in self.accuracy.items()},
            "aulc": round(self.aulc, 5),
            "gain": round(self.gain.mean, 5),
            "gain_low": _number(self.gain.low),
            "gain_high": _number(self.gain.high),
            "labels_saved": round(self.labels_saved, 1),
            "audit_auroc": _number(self.audit_auroc),
            "audit_precision": _number(self.audit_precision),
        }

    def details(self) -> dict[str, Any]:
        """Return all other measurements, as JSON takes them."""
        return {
            "data": self.data,
            "strategy": self.strategy,
            "gain_at": {
                str(n): [_number(v) for v in (g.mean, g.low, g.high)] for n, g in self.gain_at.items()
            },
            "rare_at_25": round(self.rare_at_25, 2),
            "slowest_selection_seconds": round(self.select_seconds, 4),
            "curve": {
                str(int(n)): [_number(v) for v in (point.mean, point.low, point.high)]
                for n, point in zip(self.n_labels, self.curve, strict=True)
            },
        }


def summarise(curves: Sequence[Curve], encoder: str) -> list[Summary]:
    """Return one summary for each data set and strategy, in the order they first occur.

    Every data set must have been run with random on the same seeds: gains are paired with it.
    """
    by_run = {(curve.data, curve.strategy, curve.seed): curve for curve in curves}
    pairs = dict.fromkeys((curve.data, curve.strategy) for curve in curves)
    found = []
    for data, strategy in pairs:
        seeds = sorted(seed for d, s, seed in by_run if (d, s) == (data, strategy))
        mine = [by_run[data, strategy, seed] for seed in seeds]
        baseline = [by_run[data, BASELINE, seed] for seed in seeds]
        found.append(_summary(mine, baseline, encoder))
    return found


def interval(values: NDArray[Any]) -> Interval:
    """Return the mean of (n,) values and its 95 % interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    from scipy.stats import t as student  # noqa: PLC0415 - takes long to load

    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def labels_needed(n_labels: NDArray[Any], accuracy: NDArray[Any], target: float) -> float:
    """Return at how many labels a learning curve first reaches `target`, interpolated linearly between rounds.

    NaN where it never does.
    """
    best = np.maximum.accumulate(accuracy)
    if target > best[-1]:
        return math.nan
    after = int(np.argmax(best >= target))
    if after == 0:
        return float(n_labels[0])
    share = (target - best[after - 1]) / (best[after] - best[after - 1])
    return float(n_labels[after - 1] + share * (n_labels[after] - n_labels[after - 1]))


def labels_saved(n_labels: NDArray[Any], mine: NDArray[Any], random: NDArray[Any]) -> float:
    """Return how many more labels random needs for the same accuracy; negative where it needs fewer.

    The accuracy compared at is the highest both reach within the budget.
    """
    target = min(float(mine.max()), float(random.max()))
    return labels_needed(n_labels, random, target) - labels_needed(n_labels, mine, target)


def _summary(mine: Sequence[Curve], baseline: Sequence[Curve], encoder: str) -> Summary:
    first = mine[0]
    accuracy = np.array([curve.accuracy for curve in mine])
    random = np.array([curve.accuracy for curve in baseline])
    n_labels = np.array(first.n_labels)
    audits = [curve.audit for curve in mine if curve.audit is not None]
    listed = sum(audit.length for audit in audits)
    hits = sum(audit.precision * audit.length for audit in audits if audit.length)
    aurocs = [audit.auroc for audit in audits if not math.isnan(audit.auroc)]
    at_25 = int(np.searchsorted(n_labels, 25, side="right")) - 1
    return Summary(
        data=first.data,
        strategy=first.strategy,
        encoder=encoder,
        seeds=len(mine),
        n_labels=n_labels,
        curve=tuple(interval(column) for column in accuracy.T),
        aulc=float(accuracy.mean()),
        gain=interval(accuracy.mean(axis=1) - random.mean(axis=1)),
        gain_at={
            int(n): interval(accuracy[:, column] - random[:, column])
            for column, n in enumerate(n_labels)
            if n in CHECKPOINTS
        },
        labels_saved=labels_saved(n_labels, accuracy.mean(axis=0), random.mean(axis=0)),
        rare_at_25=float(np.mean([curve.rare_found[max(at_25, 0)] for curve in mine])),
        audit_auroc=float(np.mean(aurocs)) if aurocs else math.nan,
        audit_precision=hits / listed if listed else math.nan,
        select_seconds=max(curve.select_seconds for curve in mine),
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)
