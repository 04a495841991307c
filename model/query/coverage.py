"""Coverage: crops that look like many others, and like none already labelled."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from model.pool import chunks
from model.query.base import Query, QueryStrategy, count


class CoverageQueryStrategy(QueryStrategy):
    """Greedy kernel coverage conditioned on what is labelled: MaxHerding (Bae et al. 2024, 2407.12212).

    A crop is covered as well as its most similar labelled crop resembles it under a Gaussian kernel; each
    pick is the candidate that adds the most coverage. Nothing is drawn at random where the pool is small:
    five picks are the same whether asked for at once or one by one.

    `max_candidates` bounds the candidates compared, which are also the crops to be covered; `bandwidth` is
    the width of the kernel in units of the median distance between crops.
    """

    name: ClassVar[str] = "coverage"

    def __init__(self, *, max_candidates: int = 2000, bandwidth: float = 0.5) -> None:
        self.max_candidates = max_candidates
        self.bandwidth = bandwidth

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose by coverage gained, most first."""
        size = count(query, batch_size)
        if size == 0:
            return []
        candidates = np.sort(query.candidates)
        if len(candidates) > max(self.max_candidates, size):
            drawn = np.random.default_rng(query.seed).permutation(candidates)
            candidates = np.sort(drawn[: max(self.max_candidates, size)])
        features = np.asarray(query.features[candidates], dtype=np.float32)
        # Beyond this many, covering all candidates would need too large a kernel: a sample stands for them.
        references = (
            features[: self.max_candidates]
            if len(features) <= self.max_candidates
            else features[np.random.default_rng(query.seed).permutation(len(features))[: self.max_candidates]]
        )
        width = self.bandwidth * _median_distance(references)
        covered = np.zeros(len(references), dtype=np.float32)
        for rows in chunks(len(query.labeled), 2000):
            labeled = np.asarray(query.features[query.labeled[rows]], dtype=np.float32)
            covered = np.maximum(covered, _kernel(labeled, references, width).max(axis=0))
        kernel = _kernel(features, references, width)
        free = np.ones(len(candidates), dtype=bool)
        chosen: list[int] = []
        for _ in range(size):
            gain = np.maximum(kernel - covered, 0).sum(axis=1)
            best = int(np.argmax(np.where(free, gain, -1.0)))
            free[best] = False
            covered = np.maximum(covered, kernel[best])
            chosen.append(int(candidates[best]))
        return chosen


def _squared_distances(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """(n, d), (m, d) to (n, m) float32; never below 0."""
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
    return np.asarray(np.maximum(squared, 0))


def _kernel(a: NDArray[Any], b: NDArray[Any], width: float) -> NDArray[Any]:
    return np.exp(_squared_distances(a, b) / np.float32(-2 * width * width))


def _median_distance(rows: NDArray[Any]) -> float:
    """The median distance between different rows; 1 where all are the same, when any width will do."""
    squared = _squared_distances(rows[:500], rows[:500])
    apart = squared[squared > 1e-6 * max(float(squared.max(initial=0)), 1e-12)]
    return float(np.sqrt(np.median(apart))) if apart.size else 1.0
