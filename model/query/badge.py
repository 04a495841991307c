"""BADGE: crops whose labels would move the model far, each in another direction."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from everylabel.model.query.base import Query, QueryStrategy, count
from everylabel.model.query.kernel import sample_candidates
from everylabel.model.query.max_herding import MaxHerdingQueryStrategy


class BadgeQueryStrategy(QueryStrategy):
    """k-means++ over the gradients of the linear head: BADGE (Ash et al. 2020, 1906.03671).

    A crop's gradient, were the predicted class true, is the outer product of (probabilities - predicted) and its
    features; distances between such products need the two factors only. Without a model it is coverage.
    """

    name: ClassVar[str] = "badge"

    def __init__(self, *, max_candidates: int = 10_000) -> None:
        self.max_candidates = max_candidates

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose by k-means++: the largest gradient, then by chance in proportion to the squared distance."""
        size = count(query, batch_size)
        if query.probabilities is None:
            return MaxHerdingQueryStrategy().select(query, batch_size)
        if size == 0:
            return []
        candidates = sample_candidates(query, size, self.max_candidates)
        rows = candidates.features.astype(np.float64)
        error = query.probabilities[candidates.indices].astype(np.float64)
        error[np.arange(len(error)), error.argmax(axis=1)] -= 1.0
        length = (error**2).sum(axis=1) * (rows**2).sum(axis=1)
        rng = np.random.default_rng(query.seed)
        free = np.ones(len(rows), dtype=bool)
        chosen = [int(length.argmax())]
        nearest = np.full(len(rows), np.inf)
        while True:
            last = chosen[-1]
            free[last] = False
            if len(chosen) == size:
                return [int(candidates.indices[row]) for row in chosen]
            product = (error @ error[last]) * (rows @ rows[last])
            nearest = np.minimum(nearest, np.maximum(length + length[last] - 2 * product, 0))
            chance = np.where(free, nearest, 0.0)
            # Where all that is left are duplicates of picks, any of them will do.
            chance = chance if chance.sum() > 0 else free.astype(float)
            chosen.append(int(rng.choice(len(rows), p=chance / chance.sum())))
