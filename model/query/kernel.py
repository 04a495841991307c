"""How crops resemble each other: a Gaussian kernel between candidates and the crops they would stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.pool import chunks, sample
from everylabel.model.query.base import Query

READ_ROWS = 2000
EVALUATED_TOGETHER = 64


@dataclass(frozen=True)
class Candidates:
    """The candidates compared, ascending: all of a small pool, a sample of a large one."""

    indices: NDArray[Any]
    """(c,) rows of the pool."""
    features: NDArray[Any]
    """(c, d) float32."""


def sample_candidates(query: Query, at_least: int, at_most: int) -> Candidates:
    """Sample at most `at_most` candidates by the query's seed, and never fewer than are to be chosen."""
    indices = query.candidates
    if not (indices[1:] > indices[:-1]).all():
        indices = np.sort(indices)
    if len(indices) > max(at_most, at_least):
        indices = np.sort(sample(indices, max(at_most, at_least), np.random.default_rng(query.seed)))
    return Candidates(indices, read_features(query, indices))


def read_features(query: Query, indices: NDArray[Any]) -> NDArray[Any]:
    """Return (n, d) float32 features of pool rows, read in pieces: a large pool is never read whole."""
    parts = [
        np.asarray(query.features[indices[rows]], dtype=np.float32)
        for rows in chunks(len(indices), READ_ROWS)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, query.features.shape[1]), dtype=np.float32)


def squared_distances(a: NDArray[Any], b: NDArray[Any], lengths: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the squared distances of (n, d) and (m, d) rows: (n, m) float32, never below 0.

    Args:
        a: (n, d) rows.
        b: (m, d) rows.
        lengths: (n,) squared lengths of `a`, where known.
    """
    if lengths is None:
        lengths = (a * a).sum(axis=1)
    squared = lengths[:, None] + (b * b).sum(axis=1)
    squared -= 2 * (a @ b.T)
    return np.asarray(np.maximum(squared, 0, out=squared))


def gaussian(squared: NDArray[Any], width: float) -> NDArray[Any]:
    """Return exp(-d² / 2 width²) of squared distances."""
    return np.asarray(np.exp(squared / np.float32(-2 * width * width)))


def median_distance(rows: NDArray[Any]) -> float:
    """Return the median distance between different rows; 1 where all are the same, when any width will do."""
    squared = squared_distances(rows[:500], rows[:500])
    apart = squared[squared > 1e-6 * max(float(squared.max(initial=0)), 1e-12)]
    return float(np.sqrt(np.median(apart))) if apart.size else 1.0


def sample_rows(n: int, at_most: int, seed: int) -> NDArray[Any]:
    """Sample row numbers of 0 … n-1, or return all of them, ascending."""
    if n <= at_most:
        return np.arange(n)
    return np.sort(np.random.default_rng([seed, 1]).permutation(n)[:at_most])


class Coverage:
    """How much each candidate would newly cover, computed only where it may be the most.

    What a pick adds only falls as others are picked, so what it was before is a bound (Minoux 1978, "Accelerated
    greedy algorithms for maximizing submodular set functions"): the picks are those of computing all.

    Args:
        kernel: (c, r), how well each candidate stands for each reference.
        covered: (r,), how well a reference is stood for already.
        weight: (r,), what covering it is worth.
        own: (c,), what a candidate's gain is multiplied with.
    """

    def __init__(
        self,
        kernel: NDArray[Any],
        covered: NDArray[Any],
        weight: NDArray[Any] | None = None,
        own: NDArray[Any] | None = None,
    ) -> None:
        self._kernel, self._covered, self._weight, self._own = kernel, covered, weight, own
        self._bound = self._gain(slice(None))
        self._is_current = np.ones(len(kernel), dtype=bool)

    def best(self, free: NDArray[Any]) -> int:
        """Return the position of the first of the free candidates, (c,) bool, that add the most."""
        bound = np.where(free, self._bound, -1.0)
        while True:
            # What adds nothing any more needs no second look.
            exact = self._is_current | (bound <= 0)
            best = int(np.argmax(np.where(exact, bound, -2.0)))
            # A bound that is level too: of equals the first is taken, however they were found.
            unresolved = np.flatnonzero(~exact & (bound >= (bound[best] if exact[best] else -1.0)))
            if not len(unresolved):
                return best
            if len(unresolved) > EVALUATED_TOGETHER:
                unresolved = unresolved[
                    np.argpartition(-bound[unresolved], EVALUATED_TOGETHER)[:EVALUATED_TOGETHER]
                ]
            self._bound[unresolved] = bound[unresolved] = self._gain(unresolved)
            self._is_current[unresolved] = True

    def take(self, pick: int) -> None:
        """Count a candidate's coverage as given."""
        self._covered = np.maximum(self._covered, self._kernel[pick])
        self._is_current[:] = False

    def _gain(self, rows: NDArray[Any] | slice) -> NDArray[Any]:
        new = np.maximum(self._kernel[rows] - self._covered, 0)
        if self._weight is not None:
            new *= self._weight
        # Not a matrix product: a row's sum must not depend on which rows are looked at beside it.
        gain = new.sum(axis=1)
        return np.asarray(gain if self._own is None else gain * self._own[rows])


def pick_by_coverage(
    kernel: NDArray[Any], covered: NDArray[Any], size: int, weight: NDArray[Any] | None = None
) -> list[int]:
    """Pick greedily the candidates that add the most weighted coverage: (c, r) kernel, (r,) covered and weight.

    A reference is covered as well as its most similar pick or label resembles it.
    """
    coverage = Coverage(kernel, covered, weight)
    free = np.ones(len(kernel), dtype=bool)
    chosen: list[int] = []
    for _ in range(size):
        best = coverage.best(free)
        free[best] = False
        coverage.take(best)
        chosen.append(best)
    return chosen
