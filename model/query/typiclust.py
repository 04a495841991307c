"""TypiClust: the most typical crop of the largest cluster that has no label."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from everylabel.model.query.base import Query, QueryStrategy, count
from everylabel.model.query.kernel import read_features, sample_candidates, squared_distances
from everylabel.model.threads import single_threaded


class TypiClustQueryStrategy(QueryStrategy):
    """Typical crops of uncovered clusters: TypiClust (Hacohen et al. 2022, 2202.02794).

    There are as many clusters as labels and picks together, at most `max_clusters`; typicality is the inverse
    of the mean distance to the `neighbours` nearest crops of the cluster. Clusters with fewer labels come
    first, of those the larger.
    """

    name: ClassVar[str] = "typiclust"

    def __init__(self, *, max_candidates: int = 2000, max_clusters: int = 500, neighbours: int = 20) -> None:
        self.max_candidates = max_candidates
        self.max_clusters = max_clusters
        self.neighbours = neighbours

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose one crop a cluster, the largest uncovered cluster first."""
        size = count(query, batch_size)
        if size == 0:
            return []
        candidates = sample_candidates(query, size, self.max_candidates)
        labeled = read_features(query, query.labeled[-self.max_candidates :])
        rows = np.concatenate([candidates.features, labeled])
        n = len(candidates.features)
        wanted = min(len(labeled) + size, self.max_clusters, len(np.unique(rows, axis=0)))
        with single_threaded():
            found = MiniBatchKMeans(wanted, n_init=1, batch_size=1024, random_state=query.seed % 2**32)
            cluster = found.fit_predict(rows)
            labels = np.bincount(cluster[n:], minlength=wanted)
            members = np.bincount(cluster[:n], minlength=wanted)
            free = np.ones(n, dtype=bool)
            chosen: list[int] = []
            while len(chosen) < size:
                # A cluster without a free crop comes last of all.
                order = np.lexsort((-members, labels, members == 0))
                inside = np.flatnonzero((cluster[:n] == order[0]) & free)
                best = int(inside[_typicality(rows[inside], self.neighbours).argmax()])
                free[best] = False
                members[order[0]] -= 1
                labels[order[0]] += 1
                chosen.append(best)
        return [int(candidates.indices[row]) for row in chosen]


def _typicality(rows: NDArray[Any], neighbours: int) -> NDArray[Any]:
    """Return the inverse mean distance to the nearest rows, a row itself not counted: (n,)."""
    if len(rows) == 1:
        return np.ones(1)
    k = min(neighbours, len(rows) - 1)
    nearest = np.partition(squared_distances(rows, rows), k, axis=1)[:, : k + 1]
    return np.asarray(1 / (np.sqrt(nearest).sum(axis=1) / k + 1e-9))
