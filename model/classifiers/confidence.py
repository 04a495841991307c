"""Confidence as replays of labelling showed it to be: how often a prediction made like this one was right."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

if TYPE_CHECKING:
    from typing_extensions import Self

    from everylabel.model.onnx_graph import Graph

MOST_CONFIDENT = 1 - 1e-4
"""No softmax is believed beyond this."""
FEWEST_LABELS, MOST_LABELS = 10, 150
"""Numbers of labels that replays say something about; outside them the nearest is taken."""
LEAST_SHARE = 1e-7
BARELY = 0.05
"""How much of its lead, in log odds, the best class keeps at least: it stays the best."""


@dataclass(frozen=True)
class ConfidenceMap:
    """Turns the probability of the best class into how often such a prediction is right.

    `logit(right) = offset + slope * logit(best) + lead * log(best / second best)`. What a crop's other classes lose or
    gain is shared out among them in proportion, and which class is best never changes. Made without arguments it
    leaves every probability as it is.
    """

    offset: float = 0.0
    slope: float = 1.0
    lead: float = 0.0

    @classmethod
    def learned(cls, n_labels: int, n_contradicted: int, scale: float) -> Self:
        """Return the map for a model trained on `n_labels` labels that contradicts `n_contradicted` of them.

        A softmax calibrated on the labels is too modest: query strategies choose crops unlike the other labels, and
        out of fold these are the hardest of all. How much too modest depends on whether classes overlap, which shows
        in the labels that a regularised model does not follow. The seven numbers were fitted by
        `python -m everylabel.scripts.benchmarks.learn_confidence --seeds 8` on replays of 33 pools.

        Args:
            n_labels: labels of people, at least 1.
            n_contradicted: how many of them are not the class the model predicts.
            scale: what the softmax multiplies scores by: a lead counts in scores.
        """
        n = min(max(n_labels, FEWEST_LABELS), MOST_LABELS)
        more = math.log(n / 50)
        overlap = math.log(50 * (n_contradicted / max(n_labels, 1) * n + 0.7) / (n + 1))
        return cls(
            offset=-0.1287 - 0.1954 * more - 0.2070 * overlap,
            slope=max(0.7643 - 0.2313 * overlap, 0.1),
            lead=(2.4350 - 0.3736 * more) / scale,
        )

    @property
    def changes_nothing(self) -> bool:
        """True for the map that was made without arguments."""
        return self == type(self)()

    def apply(self, probabilities: NDArray[Any]) -> NDArray[Any]:
        """Return (n, k) probabilities with that of the best class restated; k is at least 2, every row sums to 1."""

        def restate(odds: NDArray[Any], runner_up: NDArray[Any]) -> NDArray[Any]:
            right = self.offset + (self.slope + self.lead) * odds - self.lead * runner_up
            return np.asarray(np.maximum(right, runner_up + BARELY * (odds - runner_up)))

        return probabilities if self.changes_nothing else _with_best(probabilities, restate)

    def add_to_graph(self, graph: Graph, probabilities: str, n_classes: int) -> str:
        """Add `apply` to an ONNX graph.

        Args:
            graph: the graph to add to.
            probabilities: the (n, k) float32 probabilities in it.
            n_classes: k.

        Returns:
            The name of the (n, k) float32 probabilities restated.
        """
        if self.changes_nothing:
            return probabilities

        def number(value: float) -> str:
            return graph.constant(value, "float32")

        def times(value: str, by: float) -> str:
            return graph.add("Mul", value, number(by))

        best = graph.add("ArgMax", probabilities, axis=1, keepdims=0)
        depth = graph.constant([n_classes], "int64")
        is_best = graph.add("OneHot", best, depth, graph.constant([0, 1], "float32"))
        is_other = graph.add("Sub", number(1.0), is_best)
        highest = graph.add("ReduceMax", probabilities, axes=[1], keepdims=1)
        stated = graph.add("Min", highest, number(MOST_CONFIDENT))
        odds = graph.add("Log", graph.add("Div", stated, graph.add("Sub", number(1.0), stated)))
        others = graph.add("Mul", graph.add("Add", probabilities, number(LEAST_SHARE)), is_other)
        total = graph.add("ReduceSum", others, graph.constant([1], "int64"))
        second = graph.add("ReduceMax", others, axes=[1], keepdims=1)
        runner_up = graph.add("Log", graph.add("Div", second, total))
        right = graph.add("Add", times(odds, self.slope + self.lead), number(self.offset))
        right = graph.add("Sub", right, times(runner_up, self.lead))
        barely = graph.add("Add", runner_up, times(graph.add("Sub", odds, runner_up), BARELY))
        share = graph.add("Sigmoid", graph.add("Max", right, barely))
        rest = graph.add("Div", graph.add("Sub", number(1.0), share), total)
        return graph.add("Add", graph.add("Mul", others, rest), graph.add("Mul", is_best, share))

    def undo(self, probabilities: NDArray[Any]) -> NDArray[Any]:
        """Return the (n, k) probabilities that `apply` was given, but for those beyond `MOST_CONFIDENT`."""

        def restore(odds: NDArray[Any], runner_up: NDArray[Any]) -> NDArray[Any]:
            stated = (odds - self.offset + self.lead * runner_up) / (self.slope + self.lead)
            return np.asarray(np.minimum(stated, runner_up + (odds - runner_up) / BARELY))

        return (
            probabilities
            if self.changes_nothing
            else _with_best(probabilities, restore, most_confident=1 - 1e-9)
        )


def _with_best(
    probabilities: NDArray[Any],
    odds_of: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]],
    *,
    most_confident: float = MOST_CONFIDENT,
) -> NDArray[Any]:
    """Return (n, k) probabilities with new log odds of the best class, the others in proportion.

    Args:
        probabilities: (n, k).
        odds_of: takes the log odds of the best class, and those at which the runner-up would be level with it.
        most_confident: the highest probability of the best class that is told apart.
    """
    # Classes by rows, as they are computed: numpy then works along the crops.
    by_class = probabilities.T
    best = by_class.argmax(axis=0)
    crops = np.arange(len(best))
    stated = np.minimum(by_class[best, crops].astype(np.float64), most_confident)
    others = by_class + np.float32(LEAST_SHARE)
    others[best, crops] = 0.0
    total = others.sum(axis=0)
    runner_up = np.log(others.max(axis=0) / total)
    right = expit(odds_of(np.log(stated / (1 - stated)), runner_up))
    others *= (1 - right) / total
    others[best, crops] = right
    return np.asarray(others.T)


def shifted(probabilities: NDArray[Any], shift: float) -> NDArray[Any]:
    """Return (n, k) probabilities whose best class is `shift` more probable in log odds; every row sums to 1."""
    best = probabilities.argmax(axis=1)
    crops = np.arange(len(best))
    stated = np.clip(probabilities[crops, best].astype(np.float64), 1e-6, 1 - 1e-6)
    right = expit(np.log(stated / (1 - stated)) + shift)
    found = probabilities * ((1 - right) / (1 - stated))[:, None]
    found[crops, best] = right
    return np.asarray(found)
