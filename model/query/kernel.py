"""How crops resemble each other: a Gaussian kernel between candidates and the crops they would stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.pool import chunks
from model.query.base import Query

READ_ROWS = 2000


@dataclass(frozen=True)
class Candidates:
    """The candidates compared, ascending: all of a small pool, a sample of a large one."""

    indices: NDArray[Any]
    """(c,) rows of the pool."""
    features: NDArray[Any]
    """(c, d) float32."""


def draw_candidates(query: Query, at_least: int, at_most: int) -> Candidates:
    """At most `at_most` candidates, drawn by the query's seed, and never fewer than are to be chosen."""
    indices = np.sort(query.candidates)
    if len(indices) > max(at_most, at_least):
        drawn = np.random.default_rng(query.seed).permutation(indices)
        indices = np.sort(drawn[: max(at_most, at_least)])
    return Candidates(indices, read_features(query, indices))


def read_features(query: Query, indices: NDArray[Any]) -> NDArray[Any]:
    """(n, d) float32 features of pool rows, read in pieces: a large pool is never read whole."""
    parts = [
        np.asarray(query.features[indices[rows]], dtype=np.float32)
        for rows in chunks(len(indices), READ_ROWS)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, query.features.shape[1]), dtype=np.float32)


def squared_distances(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """(n, d), (m, d) to (n, m) float32; never below 0."""
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)
    squared -= 2 * (a @ b.T)
    return np.asarray(np.maximum(squared, 0, out=squared))


def gaussian(squared: NDArray[Any], width: float) -> NDArray[Any]:
    """exp(-d² / 2 width²) of squared distances."""
    return np.asarray(np.exp(squared / np.float32(-2 * width * width)))


def median_distance(rows: NDArray[Any]) -> float:
    """The median distance between different rows; 1 where all are the same, when any width will do."""
    squared = squared_distances(rows[:500], rows[:500])
    apart = squared[squared > 1e-6 * max(float(squared.max(initial=0)), 1e-12)]
    return float(np.sqrt(np.median(apart))) if apart.size else 1.0


def sample_rows(n: int, at_most: int, seed: int) -> NDArray[Any]:
    """Row numbers of a sample of 0 … n-1, or all of them."""
    if n <= at_most:
        return np.arange(n)
    return np.sort(np.random.default_rng([seed, 1]).permutation(n)[:at_most])


def pick_by_coverage(
    kernel: NDArray[Any], covered: NDArray[Any], size: int, weight: NDArray[Any] | None = None
) -> list[int]:
    """Greedily the candidates that add the most weighted coverage: (c, r) kernel, (r,) covered and weight.

    A reference is covered as well as its most similar pick or label resembles it.
    """
    free = np.ones(len(kernel), dtype=bool)
    chosen: list[int] = []
    for _ in range(size):
        gain = np.maximum(kernel - covered, 0)
        total = gain.sum(axis=1) if weight is None else gain @ weight
        best = int(np.argmax(np.where(free, total, -1.0)))
        free[best] = False
        covered = np.maximum(covered, kernel[best])
        chosen.append(best)
    return chosen
