"""Uncertainty herding: coverage of uncertain crops, by a kernel that narrows as labels come."""

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
from everylabel.model.query.max_herding import MaxHerdingQueryStrategy
from everylabel.model.query.uncertainty import margin_uncertainty
from everylabel.model.threads import single_threaded


class UHerdingQueryStrategy(QueryStrategy):
    """Coverage weighted by margin uncertainty: UHerding (Bae et al. 2024, 2412.20644).

    The kernel's width follows the paper's rule: the least distance between two labelled crops, so it narrows
    from coverage towards uncertainty as labels come, and never above that of MaxHerding. The temperature is
    the classifier's own, chosen out of fold. Without a model it is MaxHerding.
    """

    name: ClassVar[str] = "uherding"

    def __init__(self, *, max_candidates: int = 2000, bandwidth: float = 0.5) -> None:
        self.max_candidates = max_candidates
        self.bandwidth = bandwidth

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose by uncertainty covered, most first."""
        size = count(query, batch_size)
        if query.probabilities is None or len(query.labeled) < 2:
            cold = MaxHerdingQueryStrategy(max_candidates=self.max_candidates, bandwidth=self.bandwidth)
            return cold.select(query, batch_size)
        if size == 0:
            return []
        candidates = sample_candidates(query, size, self.max_candidates)
        stand_for = sample_rows(len(candidates.features), self.max_candidates, query.seed)
        references = candidates.features[stand_for]
        weight = margin_uncertainty(query.probabilities[candidates.indices[stand_for]]).astype(np.float32)
        with single_threaded():
            labeled = read_features(query, query.labeled)
            # Of more labels than this the least distance is known well enough.
            between = squared_distances(labeled[-1000:], labeled[-1000:])
            apart = between[between > 1e-6 * max(float(between.max(initial=0)), 1e-12)]
            width = self.bandwidth * median_distance(references)
            if apart.size:
                width = min(width, float(np.sqrt(apart.min())))
            kernel = gaussian(squared_distances(candidates.features, references), width)
            covered = gaussian(squared_distances(labeled, references), width).max(axis=0)
            return [int(candidates.indices[row]) for row in pick_by_coverage(kernel, covered, size, weight)]
