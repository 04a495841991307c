"""auto, the default: a crop that stands for many doubtful ones no label resembles, and is doubtful itself."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from model.query.base import Query, QueryStrategy, count
from model.query.kernel import (
    draw_candidates,
    gaussian,
    median_distance,
    read_features,
    sample_rows,
    squared_distances,
)
from model.threads import single_threaded
from model.uncertainty import margin_uncertainty

# So that coverage still decides where a model is certain of everything.
LEAST_UNCERTAINTY = 1e-3


class AutoQueryStrategy(QueryStrategy):
    """Uncertainty times uncertainty covered; before there are two classes, coverage and k-centre in turn.

    Each pick has the largest product of two numbers: the margin uncertainty it newly covers, as in UHerding
    (Bae et al. 2024, 2412.20644) with a kernel of MaxHerding's fixed width, and its own uncertainty to the
    power of the trust in the model, which is 1/2 at `labels_to_trust` labels a class and grows to 1. The first
    alone asks for what is typical, and loses where what the encoder finds typical is not what is asked.

    Without a model, and below `cold_start` labels, it covers (MaxHerding, 2407.12212). Where `cold_start` labels are all of one class the
    other is rare or looks alike: every second pick is then the crop furthest from all labels (k-centre,
    1708.00489), for a rare class is as often an outlier as a small group.
    """

    name: ClassVar[str] = "auto"

    def __init__(
        self,
        *,
        max_candidates: int = 2000,
        max_references: int = 1000,
        bandwidth: float = 0.5,
        cold_start: int = 5,
        labels_to_trust: int = 5,
    ) -> None:
        self.max_candidates = max_candidates
        self.max_references = max_references
        self.bandwidth = bandwidth
        self.cold_start = cold_start
        self.labels_to_trust = labels_to_trust

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose greedily, the most useful first."""
        size = count(query, batch_size)
        if size == 0:
            return []
        candidates = draw_candidates(query, size, self.max_candidates)
        doubt: NDArray[Any] = np.ones(len(candidates.indices), dtype=np.float32)
        trust = 0.0
        # A live project has a model from its second label on: two to four labels say too little to doubt by.
        if query.probabilities is not None and not 0 < len(query.labeled) < self.cold_start:
            doubt = margin_uncertainty(query.probabilities[candidates.indices]).astype(np.float32)
            doubt += LEAST_UNCERTAINTY
            needed = self.labels_to_trust * query.probabilities.shape[1]
            trust = len(query.labeled) / (len(query.labeled) + needed) if len(query.labeled) else 1.0
        with single_threaded():
            rows = self._greedy(query, candidates.features, doubt, doubt**trust, size)
        return [int(candidates.indices[row]) for row in rows]

    def _greedy(
        self, query: Query, rows: NDArray[Any], doubt: NDArray[Any], own: NDArray[Any], size: int
    ) -> list[int]:
        stand_for = sample_rows(len(rows), self.max_references, query.seed)
        references = rows[stand_for]
        width = self.bandwidth * median_distance(references)
        kernel = gaussian(squared_distances(rows, references), width)
        covered = np.zeros(len(references), dtype=np.float32)
        labeled = read_features(query, query.labeled)
        if len(labeled):
            covered = gaussian(squared_distances(labeled, references), width).max(axis=0)
        seeks = query.probabilities is None and len(labeled) > 0
        nearest = squared_distances(rows, labeled).min(axis=1) if seeks else None
        free = np.ones(len(rows), dtype=bool)
        chosen: list[int] = []
        for number in range(len(labeled), len(labeled) + size):
            gain = np.maximum(kernel - covered, 0) @ doubt[stand_for] * own
            # By the number of labels, so that five picks are the same at once or one by one.
            if nearest is not None and number >= self.cold_start and number % 2:
                gain = nearest
            best = int(np.argmax(np.where(free, gain, -1.0)))
            free[best] = False
            chosen.append(best)
            covered = np.maximum(covered, kernel[best])
            if nearest is not None:
                nearest = np.minimum(nearest, squared_distances(rows, rows[best : best + 1])[:, 0])
        return chosen
