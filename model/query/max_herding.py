"""Coverage: crops that look like many others, and like none already labelled."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from everylabel.model.query.base import Query, QueryStrategy, count
from everylabel.model.query.kernel import (
    gaussian,
    median_distance,
    pick_by_coverage,
    read_features,
    sample_candidates,
    sample_rows,
    squared_distances,
)
from everylabel.model.threads import single_threaded


class MaxHerdingQueryStrategy(QueryStrategy):
    """Greedy kernel coverage conditioned on what is labelled: MaxHerding (Bae et al. 2024, 2407.12212).

    A crop is covered as well as its most similar labelled crop resembles it under a Gaussian kernel; each
    pick is the candidate that adds the most coverage. Nothing is left to chance where the pool is small:
    five picks are the same whether asked for at once or one by one.

    Args:
        max_candidates: bounds the candidates compared, which are also the crops to be covered.
        bandwidth: width of the kernel in units of the median distance between crops.
    """

    name: ClassVar[str] = "max-herding"

    def __init__(self, *, max_candidates: int = 2000, bandwidth: float = 0.5) -> None:
        self.max_candidates = max_candidates
        self.bandwidth = bandwidth

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose by coverage gained, most first."""
        size = count(query, batch_size)
        if size == 0:
            return []
        candidates = sample_candidates(query, size, self.max_candidates)
        references = candidates.features[
            sample_rows(len(candidates.features), self.max_candidates, query.seed)
        ]
        width = self.bandwidth * median_distance(references)
        with single_threaded():
            kernel = gaussian(squared_distances(candidates.features, references), width)
            covered = np.zeros(len(references), dtype=np.float32)
            if len(query.labeled):
                labeled = read_features(query, query.labeled)
                covered = gaussian(squared_distances(labeled, references), width).max(axis=0)
            return [int(candidates.indices[row]) for row in pick_by_coverage(kernel, covered, size)]
