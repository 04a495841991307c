"""The classic hybrid: uncertain first, then diverse."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from sklearn.cluster import KMeans

from everylabel.model.query.base import Query, QueryStrategy, count, most_uncertain
from everylabel.model.query.max_herding import MaxHerdingQueryStrategy
from everylabel.model.query.uncertainty import margin_uncertainty
from everylabel.model.threads import single_threaded


class HybridQueryStrategy(QueryStrategy):
    """Clusters the `beta * batch_size` most uncertain crops; takes the one nearest each centroid.

    After Zhdanov 2019 (1901.05954), "Diverse mini-batch active learning", with the uncertainty as a filter.
    Without a model it is coverage conditioned on what is labelled.
    """

    name: ClassVar[str] = "hybrid"

    def __init__(self, beta: int = 3) -> None:
        if beta < 1:
            raise ValueError(f"beta must be at least 1, got {beta}: it multiplies the batch size")
        self.beta = beta

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose one crop a cluster, most uncertain first; an empty cluster's pick goes to the next."""
        size = count(query, batch_size)
        if query.probabilities is None:
            return MaxHerdingQueryStrategy().select(query, batch_size)
        if size == 0:
            return []
        uncertainty = margin_uncertainty(query.probabilities[query.candidates])
        shortlist = most_uncertain(query.candidates, uncertainty, self.beta * size, query.seed)
        if len(shortlist) == size:
            return [int(index) for index in shortlist]
        features = np.asarray(query.features[shortlist], dtype=np.float32)
        # Duplicates cannot fill more clusters than there are different crops.
        clusters = min(size, len(np.unique(features, axis=0)))
        with single_threaded():
            found = KMeans(clusters, n_init=4, random_state=query.seed % 2**32).fit(features)
        distance = found.transform(features)
        picked: set[int] = set()
        for cluster in range(clusters):
            members = [row for row in np.flatnonzero(found.labels_ == cluster) if row not in picked]
            if members:
                picked.add(int(min(members, key=lambda row: distance[row, cluster])))
        rest = (row for row in range(len(shortlist)) if row not in picked)
        while len(picked) < size:
            picked.add(next(rest))
        return [int(shortlist[row]) for row in sorted(picked)]
