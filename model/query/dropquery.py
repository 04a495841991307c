"""DropQuery: crops whose predicted class changes when part of their features is dropped, spread by clusters."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from everylabel.model.classifiers.class_weights import balanced
from everylabel.model.classifiers.logistic import fit_softmax
from everylabel.model.query.base import Query, QueryStrategy, count
from everylabel.model.query.kernel import read_features, sample_candidates
from everylabel.model.query.max_herding import MaxHerdingQueryStrategy
from everylabel.model.threads import single_threaded


class DropQueryQueryStrategy(QueryStrategy):
    """Dropout disagreement, then diversity: DropQuery (Gupte et al. 2024, 2401.14555).

    A linear head is fitted to the labels; a candidate counts as uncertain where more than half of
    `n_samples` predictions with `dropout` of its features zeroed differ from the prediction with all. The crops
    nearest the centroids of a k-means over these are taken. Without two classes it is coverage.
    """

    name: ClassVar[str] = "dropquery"

    def __init__(self, *, max_candidates: int = 2000, dropout: float = 0.75, n_samples: int = 3) -> None:
        self.max_candidates = max_candidates
        self.dropout = dropout
        self.n_samples = n_samples

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose one crop a cluster of those that disagree, the most contested first."""
        size = count(query, batch_size)
        codes = np.unique(query.labels, return_inverse=True)[1]
        if query.probabilities is None or len(query.labels) == 0 or codes.max() == 0:
            return MaxHerdingQueryStrategy().select(query, batch_size)
        if size == 0:
            return []
        candidates = sample_candidates(query, size, self.max_candidates)
        rows = candidates.features
        rng = np.random.default_rng(query.seed)
        with single_threaded():
            labeled = read_features(query, query.labeled)
            balance = balanced(codes, np.ones(len(codes)))
            weights, bias = fit_softmax(
                labeled, codes, int(codes.max()) + 1, weight=balance, strength=10.0, tolerance=1e-5
            )
            weights = weights.astype(np.float32)
            predicted = (rows @ weights + bias).argmax(axis=1)
            disagree = np.zeros(len(rows))
            for _ in range(self.n_samples):
                kept = rng.random(rows.shape, dtype=np.float32) >= self.dropout
                disagree += ((rows * kept) @ weights + bias).argmax(axis=1) != predicted
            contested = int((disagree > 0.5 * self.n_samples).sum())
            order = np.lexsort((rng.permutation(len(rows)), -disagree))
            shortlist = order[: max(size, contested)]
            clusters = min(size, len(np.unique(rows[shortlist], axis=0)))
            found = MiniBatchKMeans(clusters, n_init=3, batch_size=1024, random_state=query.seed % 2**32)
            distance = found.fit_transform(rows[shortlist])
        chosen: list[int] = []
        free = np.ones(len(shortlist), dtype=bool)
        for pick in range(size):
            column = distance[:, pick % clusters]
            best = int(np.argmin(np.where(free, column, np.inf)))
            free[best] = False
            chosen.append(int(shortlist[best]))
        return [int(candidates.indices[row]) for row in sorted(chosen, key=lambda row: -disagree[row])]
