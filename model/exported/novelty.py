"""Tell crops that are unlike anything in the pool: by the nearest of its embeddings (Sun et al. 2022, 2204.06507).

Embeddings are compared where they point, from the origin and not from the pool's centre: from there, what is unlike
all of the pool looks like any of it. Of the ways tried on six sets, AUROC of one set against another: 0.98 to 1.00
so, 0.56 to 1.00 from the centre, 0.76 to 1.00 by Mahalanobis distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from everylabel.model.pool import Rows, gather
from everylabel.model.threads import single_threaded
from everylabel.model.vectors import flat_rows, unit_rows

if TYPE_CHECKING:
    from everylabel.model.onnx_graph import Graph

REFERENCES = 2000
"""Rows of the pool that a crop is compared with."""
DIMENSIONS = 64
"""Directions in which they are compared; the rest of a crop counts as distance from all of them."""
DIRECTION_ROWS = 1000
"""Rows that the directions are chosen by."""
FLAGGED = 0.05
"""Share of the pool's own kind that is flagged at most, with a confidence of 95 %."""
FEWEST = 20
"""Rows without which nothing is said."""


@dataclass(frozen=True)
class Novelty:
    """How far a crop is from the nearest reference, as a multiple of what is usual: above 1 it is unlike all of them."""

    directions: NDArray[Any]
    """(d, m) float32, orthonormal columns."""
    references: NDArray[Any]
    """(r, m) float32: rows of the pool in these directions."""
    threshold: float
    """The squared distance above which a crop is flagged."""
    by_direction: bool
    """Rows are compared at length 1; pixels are compared as they are."""
    n_measured: int
    """How many rows, not among the references, the threshold was measured on."""

    @classmethod
    def measured(cls, pool: Rows, *, by_direction: bool, seed: int = 0) -> Novelty | None:
        """Take references from a pool, and the threshold from other rows of it.

        Where the pool is too small to spare any, the threshold is measured with half of it as references, which
        flags rather too few.

        Args:
            pool: (n, ...) rows, as they are stored.
            by_direction: compare rows at length 1.
            seed: picks the rows.

        Returns:
            None for a pool of fewer than 20 rows.
        """
        if len(pool) < FEWEST:
            return None
        order = np.random.default_rng(seed).permutation(len(pool))[: 2 * REFERENCES]
        with single_threaded():
            return cls._of(_comparable(gather(pool, np.sort(order)), by_direction), by_direction, seed)

    @classmethod
    def _of(cls, rows: NDArray[Any], by_direction: bool, seed: int) -> Novelty:
        rows = rows[np.random.default_rng(seed).permutation(len(rows))]
        half = len(rows) // 2
        directions = _directions(rows[:half])
        distances = _distances(rows[half:], rows[:half] @ directions, directions)
        # So many may lie above a threshold, and it still holds for the next crops with a confidence of 95 %.
        above = max(int(binom.ppf(0.05, len(distances), FLAGGED)) - 1, 0)
        threshold = max(float(np.sort(distances)[-1 - above]), 1e-9)
        if len(rows) < 2 * REFERENCES:
            directions = _directions(rows)
            half = min(len(rows), REFERENCES)
        return cls(directions, rows[:half] @ directions, threshold, by_direction, len(distances))

    def score(self, rows: Rows) -> NDArray[Any]:
        """Return how unlike the pool each of a few rows is: (n,) float32, above 1 for those to be flagged."""
        found = _distances(_comparable(rows, self.by_direction), self.references, self.directions)
        return np.asarray(found / self.threshold, dtype=np.float32)

    def add_to_graph(self, graph: Graph, rows: str) -> str:
        """Add `score` of (n, d) float32 rows to an ONNX graph, and return the name of the (n,) float32 scores."""

        def number(value: float) -> str:
            return graph.constant(value, "float32")

        def square(value: str) -> str:
            return graph.add("ReduceSumSquare", value, axes=[1], keepdims=1)

        if self.by_direction:
            length = graph.add("Max", graph.add("Sqrt", square(rows)), number(1e-12))
            rows = graph.add("Div", rows, length)
        there = graph.add("MatMul", rows, graph.constant(self.directions, "float32"))
        products = graph.add("MatMul", there, graph.constant(-2 * self.references.T, "float32"))
        nearest = graph.add("Add", products, graph.constant(_squares(self.references), "float32"))
        nearest = graph.add("ReduceMin", nearest, axes=[1], keepdims=1)
        distance = graph.add("Max", graph.add("Add", square(rows), nearest), number(0.0))
        score = graph.add("Mul", distance, number(1 / self.threshold))
        return graph.add("Squeeze", score, graph.constant([1], "int64"))


def of_rows(pool: Rows, rows: NDArray[Any], *, by_direction: bool, seed: int = 0) -> Novelty | None:
    """Measure the novelty of a pool that is some rows of a file: as many of them are read as it takes.

    Args:
        pool: (n, ...) all rows of the file.
        rows: (m,) the numbers of those that count.
        by_direction: as for `Novelty.measured`.
        seed: as for `Novelty.measured`.
    """
    sampled = np.sort(np.random.default_rng(seed).permutation(rows)[: 2 * REFERENCES])
    return Novelty.measured(gather(pool, sampled), by_direction=by_direction, seed=seed)


def _comparable(rows: Rows, by_direction: bool) -> NDArray[Any]:
    flat = flat_rows(rows)
    return unit_rows(flat) if by_direction else flat


def _squares(rows: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def _distances(rows: NDArray[Any], references: NDArray[Any], directions: NDArray[Any]) -> NDArray[Any]:
    """Return the squared distance of each row to the nearest reference, what no direction sees of it included."""
    nearest = (_squares(references) - 2 * (rows @ directions) @ references.T).min(axis=1)
    return np.asarray(np.maximum(_squares(rows) + nearest, 0.0))


def _directions(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the directions in which (n, d) rows are largest: (d, m) float32, orthonormal."""
    rows = rows[:DIRECTION_ROWS].astype(np.float64)
    values, vectors = np.linalg.eigh(rows @ rows.T)  # of n by n: rows may be very long
    largest = np.argsort(values)[::-1][:DIMENSIONS]
    largest = largest[values[largest] > 1e-9 * values[largest[0]]]
    return np.asarray(rows.T @ vectors[:, largest] / np.sqrt(values[largest]), dtype=np.float32)
