"""A classifier and what it predicts of the pool: trained anew for every round, scored when asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.classifiers.base import Classifier
from everylabel.model.pool import Rows, gather, release_pages
from everylabel.model.round import TrainingData

Scorer = Callable[[Classifier, Rows], NDArray[Any]]
"""Computes what `classifier.predict_proba(pool)` gives, perhaps elsewhere: (n, k) float32."""


class PoolModel:
    """The classifier as last trained, and its probabilities of the whole pool.

    Every training starts from `untrained`, which is never fitted: a round depends on its labels and not on the
    rounds before.
    """

    def __init__(self, pool: Rows, classifier: Classifier, scorer: Scorer | None = None) -> None:
        self._pool = pool
        self._scorer = _scored_here if scorer is None else scorer
        self.untrained = classifier.fresh().adapt(pool)
        release_pages(pool)
        self.classifier = self.untrained.fresh()
        self.probabilities: NDArray[Any] | None = None
        """(n, k) float32 of every pool crop; None until `score`, and before two classes are known."""

    @property
    def can_predict(self) -> bool:
        """True once two classes or more are known."""
        return len(self.classifier.classes_) >= 2

    def fit(self, data: TrainingData) -> None:
        """Train a fresh classifier; without a label there is nothing to train."""
        self.classifier = self.untrained.fresh()
        self.probabilities = None
        if data.indices:
            rows = gather(self._pool, np.asarray(data.indices, dtype=np.intp))
            self.classifier.fit(rows, data.labels, data.weights)

    def score(self) -> NDArray[Any] | None:
        """Return the probabilities of the pool, computed once after each training."""
        if self.can_predict and self.probabilities is None:
            self.probabilities = self._scorer(self.classifier, self._pool)
        return self.probabilities

    def predict(self, crops: NDArray[Any]) -> NDArray[Any]:
        """Return the most probable class of these crops, as (m,) columns of `classes_`.

        They are scored alone while the pool has not been.
        """
        if self.probabilities is not None:
            return np.asarray(self.probabilities[crops].argmax(axis=1))
        return np.asarray(self.classifier.predict_proba(gather(self._pool, crops)).argmax(axis=1))


def _scored_here(classifier: Classifier, pool: Rows) -> NDArray[Any]:
    return classifier.predict_proba(pool)
