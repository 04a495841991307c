"""auto, the default: a crop that stands for many uncertain ones no label resembles, and is uncertain itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from everylabel.model.query.base import Query, QueryStrategy, count
from everylabel.model.query.kernel import (
    Coverage,
    gaussian,
    median_distance,
    read_features,
    sample_candidates,
    sample_rows,
    squared_distances,
)
from everylabel.model.query.uncertainty import margin_uncertainty
from everylabel.model.threads import single_threaded

# So that coverage still decides where a model is certain of everything.
LEAST_UNCERTAINTY = 1e-3


class AutoQueryStrategy(QueryStrategy):
    """Uncertainty times uncertainty covered; while one class is known, k-centre for two picks of three.

    Each pick has the largest product of two numbers: the margin uncertainty it newly covers, as in UHerding
    (Bae et al. 2024, 2412.20644) with a kernel of MaxHerding's fixed width, and its own uncertainty to the
    power of the trust in the model, which is 1/2 at `labels_to_trust` labels a class and grows to 1. The first
    alone asks for what is typical, and loses where what the encoder finds typical is not what is asked. Hence
    two more:

    - Crops resemble each other by the encoder and, as far as it is trusted, by the model: its probabilities
      times the trust stand beside the features.
    - The more the classes are imbalanced, the more a crop's own uncertainty counts, by its rank: under a
      class-weighted head the uncertain crops are where the rare classes are.

    Without a model, and below `cold_start` labels, it covers (MaxHerding, 2407.12212). Where `cold_start`
    labels are all of one class the other is rare or looks alike: two picks of three are then the crop
    furthest from all labels (k-centre, 1708.00489), for a rare class is as often an outlier as a small group.
    """

    name: ClassVar[str] = "auto"

    def __init__(
        self,
        *,
        max_candidates: int = 2000,
        min_references: int = 1000,
        references_per_pick: int = 10,
        bandwidth: float = 0.5,
        cold_start: int = 5,
        labels_to_trust: int = 5,
        rank_power: float = 10.0,
    ) -> None:
        self.max_candidates = max_candidates
        self.min_references = min_references
        self.references_per_pick = references_per_pick
        self.bandwidth = bandwidth
        self.cold_start = cold_start
        self.labels_to_trust = labels_to_trust
        self.rank_power = rank_power

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose greedily, the most useful first."""
        size = count(query, batch_size)
        if size == 0:
            return []
        with single_threaded():
            candidates = sample_candidates(query, size, self.max_candidates)
            rows, labeled = candidates.features, read_features(query, query.labeled)
            view = self._view(query, candidates.indices)
            if query.probabilities is not None and view.trust:
                trust = np.float32(view.trust)
                rows = np.hstack([rows, trust * query.probabilities[candidates.indices]])
                labeled = np.hstack([labeled, trust * query.probabilities[query.labeled]])
            chosen = self._greedy(query, rows, labeled, view, size)
        return [int(candidates.indices[row]) for row in chosen]

    def _view(self, query: Query, indices: NDArray[Any]) -> _ModelView:
        n_labels = len(query.labeled)
        # A live project has a model from its second label on: two to four labels say too little about uncertainty.
        if query.probabilities is None or 0 < n_labels < self.cold_start:
            level = np.ones(len(indices), dtype=np.float32)
            return _ModelView(0.0, level, level)
        uncertainty = margin_uncertainty(query.probabilities[indices]).astype(np.float32) + LEAST_UNCERTAINTY
        needed = self.labels_to_trust * query.probabilities.shape[1]
        trust = n_labels / (n_labels + needed) if n_labels else 1.0
        # By rank too: the first models are so cautious that all are nearly level.
        rank = rankdata(uncertainty) / len(uncertainty)
        own = uncertainty**trust * rank ** (self.rank_power * _class_imbalance(query.labels))
        return _ModelView(trust, uncertainty, own.astype(np.float32))

    def _greedy(
        self, query: Query, rows: NDArray[Any], labeled: NDArray[Any], view: _ModelView, size: int
    ) -> list[int]:
        # A crop that is a reference covers itself. Of a large batch the last picks cover little else, and with few
        # references they would be chosen from those alone.
        n_references = max(self.min_references, self.references_per_pick * size)
        stand_for = sample_rows(len(rows), n_references, query.seed)
        references = rows[stand_for]
        width = self.bandwidth * median_distance(references)
        kernel = gaussian(squared_distances(rows, references), width)
        covered = np.zeros(len(references), dtype=np.float32)
        if len(labeled):
            covered = gaussian(squared_distances(labeled, references), width).max(axis=0)
        seeks = query.probabilities is None and len(labeled) > 0
        lengths = (rows * rows).sum(axis=1)
        nearest = squared_distances(rows, labeled, lengths).min(axis=1) if seeks else None
        coverage = Coverage(kernel, covered, view.uncertainty[stand_for], view.own)
        free = np.ones(len(rows), dtype=bool)
        chosen: list[int] = []
        for number in range(len(labeled), len(labeled) + size):
            # By the number of labels, so that five picks are the same at once or one by one.
            if nearest is not None and number >= self.cold_start and number % 3:
                best = int(np.argmax(np.where(free, nearest, -1.0)))
            else:
                best = coverage.best(free)
            free[best] = False
            chosen.append(best)
            coverage.take(best)
            if nearest is not None:
                to_best = squared_distances(rows, rows[best : best + 1], lengths)[:, 0]
                nearest = np.minimum(nearest, to_best)
        return chosen


@dataclass(frozen=True)
class _ModelView:
    """The model's predictions of the candidates, and how far to trust them."""

    trust: float
    uncertainty: NDArray[Any]
    """(c,) what covering a crop is worth."""
    own: NDArray[Any]
    """(c,) what asking for it is worth beside what it covers."""


def _class_imbalance(labels: NDArray[Any]) -> float:
    """Return 0 where every class has as many labels, towards 1 as one has them all: 1 - entropy / log(classes)."""
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2:
        return 0.0
    share = counts / counts.sum()
    return max(0.0, float(1 + (share * np.log(share)).sum() / np.log(len(share))))
