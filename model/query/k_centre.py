"""k-centre: the crop that is furthest from everything labelled."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everylabel.model.query.base import Query, QueryStrategy, count
from everylabel.model.query.kernel import read_features, sample_candidates, squared_distances
from everylabel.model.threads import single_threaded


class KCentreQueryStrategy(QueryStrategy):
    """The greedy core-set (Sener and Savarese 2018, 1708.00489): each pick is furthest from labels and picks.

    With nothing labelled it starts from the crop nearest the mean of the pool.
    """

    name: ClassVar[str] = "k-centre"

    def __init__(self, *, max_candidates: int = 10_000) -> None:
        self.max_candidates = max_candidates

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose by distance, furthest first."""
        size = count(query, batch_size)
        if size == 0:
            return []
        candidates = sample_candidates(query, size, self.max_candidates)
        rows = candidates.features
        with single_threaded():
            if len(query.labeled):
                # Some labels at a time: with thousands of both, all distances at once would not fit.
                nearest: NDArray[Any] = np.full(len(rows), np.inf, dtype=np.float32)
                labeled = read_features(query, query.labeled)
                for start in range(0, len(labeled), 256):
                    part = squared_distances(rows, labeled[start : start + 256])
                    nearest = np.minimum(nearest, part.min(axis=1))
            else:
                nearest = -squared_distances(rows, rows.mean(axis=0, keepdims=True))[:, 0]
            free = np.ones(len(rows), dtype=bool)
            chosen: list[int] = []
            for _ in range(size):
                best = int(np.argmax(np.where(free, nearest, -np.inf)))
                free[best] = False
                distance = squared_distances(rows, rows[best : best + 1])[:, 0]
                first = not chosen and not len(query.labeled)
                nearest = distance if first else np.minimum(nearest, distance)
                chosen.append(best)
        return [int(candidates.indices[row]) for row in chosen]
