"""ProbCover: balls of one radius around the picks are to hold as much of the pool as they can."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from everylabel.model.query.base import Query, QueryStrategy, count
from everylabel.model.query.kernel import read_features, sample_candidates, squared_distances
from everylabel.model.threads import single_threaded


class ProbCoverQueryStrategy(QueryStrategy):
    """Greedy maximum coverage by balls: ProbCover (Yehuda et al. 2022, 2205.11320).

    The radius is the largest of a grid at which `purity` of the balls hold one cluster only, where k-means
    stands for the classes nobody knows, as in the paper; there are as many clusters as classes known, at
    least `min_clusters`. Once all is covered, the crop whose ball holds most comes first.
    """

    name: ClassVar[str] = "probcover"

    def __init__(self, *, max_candidates: int = 2000, purity: float = 0.95, min_clusters: int = 5) -> None:
        self.max_candidates = max_candidates
        self.purity = purity
        self.min_clusters = min_clusters

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose by crops newly covered, most first."""
        size = count(query, batch_size)
        if size == 0:
            return []
        candidates = sample_candidates(query, size, self.max_candidates)
        rows = candidates.features
        with single_threaded():
            squared = squared_distances(rows, rows)
            inside = squared <= self._radius(query, rows, squared) ** 2
            np.fill_diagonal(inside, True)
            covered = np.zeros(len(rows), dtype=bool)
            if len(query.labeled):
                labeled = read_features(query, query.labeled)
                radius = self._radius(query, rows, squared)
                for start in range(0, len(labeled), 256):
                    near = squared_distances(rows, labeled[start : start + 256]) <= radius**2
                    covered |= near.any(axis=1)
        everything = inside.sum(axis=1) / (len(rows) + 1.0)
        free = np.ones(len(rows), dtype=bool)
        chosen: list[int] = []
        for _ in range(size):
            gain = inside[:, ~covered].sum(axis=1) + everything
            best = int(np.argmax(np.where(free, gain, -1.0)))
            free[best] = False
            covered |= inside[best]
            chosen.append(best)
        return [int(candidates.indices[row]) for row in chosen]

    def _radius(self, query: Query, rows: NDArray[Any], squared: NDArray[Any]) -> float:
        sample = slice(0, 1000)
        clusters = min(
            max(self.min_clusters, len(np.unique(query.labels))), len(np.unique(rows[sample], axis=0))
        )
        # Not the query's seed: the radius belongs to the pool, and should not change from round to round.
        found = MiniBatchKMeans(clusters, n_init=1, batch_size=1024, random_state=0)
        cluster = found.fit_predict(rows[sample])
        between = np.sqrt(squared[sample, sample])
        # A ball is pure up to the nearest crop of another cluster.
        other = np.where(cluster[:, None] == cluster, np.inf, between).min(axis=1)
        finite = other[np.isfinite(other)]
        return float(np.quantile(finite, 1 - self.purity)) if finite.size else float(between.max(initial=0))
