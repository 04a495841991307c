"""How true the stated accuracy is: estimates of replayed rounds beside what was right, and their summary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from everylabel.model.evaluation.accuracy import calibration_error

if TYPE_CHECKING:
    from everylabel.model.session import Round
    from everylabel.scripts.replay.replay import Curve

AT = (25, 50, 100)
TARGET = 0.9
"""The estimate at which a person is taken to stop."""


@dataclass(frozen=True)
class EstimatedRound:
    """The accuracy a round stated of the crops without a label, and the true one. Shares from 0 to 1."""

    n_labels: int
    estimate: float
    low: float
    high: float
    true: float
    ece: float
    """Expected calibration error of the confidences of the crops without a label, in 15 bins."""
    contradicted: bool = False
    """Whether the blind check crops were said to say otherwise."""

    @property
    def holds(self) -> bool:
        """True if the interval contains the truth."""
        return self.low - 1e-9 <= self.true <= self.high + 1e-9


def estimated(found: Round, truth: NDArray[Any], labeled: NDArray[Any]) -> EstimatedRound | None:
    """Return what a round stated beside the truth; None where it states nothing.

    Args:
        found: the round.
        truth: (n,) the true class of every crop of the pool.
        labeled: the crops that have a label.
    """
    if found.accuracy is None or found.probabilities is None:
        return None
    free = np.setdiff1d(np.arange(len(truth)), labeled)
    probabilities = found.probabilities[free]
    right = np.asarray(found.classes)[probabilities.argmax(axis=1)] == truth[free]
    stated = found.accuracy
    return EstimatedRound(
        found.n_labels,
        stated.estimate,
        stated.low,
        stated.high,
        float(right.mean()),
        calibration_error(probabilities.max(axis=1), right),
        stated.is_contradicted,
    )


def stopped_at(curve: Curve, target: float = TARGET) -> EstimatedRound | None:
    """Return the first round whose estimate reaches the target: where a person who waits for it stops."""
    return next((point for point in curve.estimates if point.estimate >= target), None)


def estimate_table(curves: Sequence[Curve]) -> Table:
    """Return a table for a terminal, in points: a row a data set, strategy and number of labels."""
    shown = Table(
        title="Stated accuracy of the crops without a label",
        caption="Error: root mean square, in points. Width: half the 95 % interval. Holds: intervals that contain the "
        f"truth. ECE: expected calibration error. First {TARGET:.0%}: the interval at the first estimate of {TARGET:.0%} "
        "holds the truth.",
    )
    for column in ("data", "strategy"):
        shown.add_column(column, overflow="fold", min_width=9)
    for column in ("labels", "error", "width", "holds", "ECE", f"first {TARGET:.0%}"):
        shown.add_column(column, justify="right", no_wrap=True)
    for data, strategy in dict.fromkeys((curve.data, curve.strategy) for curve in curves):
        runs = [curve for curve in curves if (curve.data, curve.strategy) == (data, strategy)]
        stops = [stop.holds for curve in runs if (stop := stopped_at(curve)) is not None]
        for n_labels in AT:
            points = [point for curve in runs for point in curve.estimates if point.n_labels == n_labels]
            if not points:
                continue
            error = math.sqrt(float(np.mean([(point.estimate - point.true) ** 2 for point in points])))
            width = float(np.mean([(point.high - point.low) / 2 for point in points]))
            shown.add_row(
                escape(data),
                strategy,
                str(n_labels),
                f"{error * 100:.1f}",
                f"{width * 100:.1f}",
                f"{np.mean([point.holds for point in points]):.0%}",
                f"{np.mean([point.ece for point in points]):.3f}",
                f"{sum(stops)} of {len(stops)}" if n_labels == AT[0] and stops else "",
            )
    return shown


def estimates_as_json(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Return every stated accuracy at 25, 50 and 100 labels beside the truth, and where a person stops at 90 %."""
    found = []
    for curve in curves:
        stop = stopped_at(curve)
        run = {"data": curve.data, "strategy": curve.strategy, "seed": curve.seed}
        points = [(point, False) for point in curve.estimates if point.n_labels in AT]
        if stop is not None:
            points.append((stop, True))
        found += [
            run
            | {
                name: round(value, 5) if isinstance(value, float) else value
                for name, value in asdict(point).items()
            }
            | {"stopped": stopped}
            for point, stopped in points
        ]
    return found
