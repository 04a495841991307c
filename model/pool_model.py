"""A classifier and what it predicts of the pool: trained anew for every round, scored when asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.classifiers.base import Classifier
from everylabel.model.classifiers.blended import BlendedClassifier
from everylabel.model.earlier_model import ENOUGH, Comparison, EarlierShare, compare
from everylabel.model.pool import Rows, gather, release_pages
from everylabel.model.round import TrainingData

Scorer = Callable[[Classifier, Rows], NDArray[Any]]
"""Computes what `classifier.predict_proba(pool)` gives, perhaps elsewhere: (n, k) float32."""


class PoolModel:
    """The classifier as last trained, and its probabilities of the whole pool.

    Every training starts from `untrained`, which is never fitted: a round depends on its labels and not on the
    rounds before.

    Args:
        pool: the rows of all crops.
        classifier: what is trained.
        scorer: computes probabilities of the pool elsewhere.
        earlier: the classifier of an earlier project; it has no say after a training until `listen` gives it one.
    """

    def __init__(
        self,
        pool: Rows,
        classifier: Classifier,
        scorer: Scorer | None = None,
        earlier: Classifier | None = None,
    ) -> None:
        self._pool = pool
        self.earlier = earlier
        self.share = 0.0
        """What the earlier classifier's probabilities weigh."""
        self._own: NDArray[Any] | None = None
        self._of_earlier: NDArray[Any] | None = None
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

    @property
    def answering(self) -> Classifier:
        """The classifier that predicts the pool: the trained one, the earlier one before there is any, or both."""
        if self.earlier is None or not self.share:
            return self.classifier
        if not self.can_predict:
            return self.earlier
        return BlendedClassifier(self.classifier, self.earlier, self.share)

    def listen(self, labels: Mapping[int, str], seed: int) -> tuple[EarlierShare | None, Comparison | None]:
        """Give the earlier classifier, if there is one, the share that the labels leave it until the next training.

        Args:
            labels: the labels of people by crop.
            seed: deals them into folds.

        Returns:
            The share, and the comparison that it rests on if it is above 0.
        """
        if self.earlier is None:
            return None, None
        rows = gather(self._pool, np.asarray([*labels], dtype=np.intp))
        found, comparison = compare(self.untrained, self.earlier, rows, [*labels.values()], seed)
        self.share, self.probabilities = found.share, None
        return found, comparison if found.share else None

    def choosing(self, n_labels: int) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
        """Return the (n, k) probabilities that crops are chosen by, as stated and as query strategies are to see them.

        Both are None before there is a model, and while an earlier one is alone and untested by labels.
        """
        chooser, stated = self.answering, self.score()
        if self.share and n_labels < ENOUGH:
            chooser, stated = self.classifier, self._score_own() if self.can_predict else None
        return stated, None if stated is None else chooser.unrestated(stated)

    def fit(self, data: TrainingData) -> None:
        """Train a fresh classifier; without a label there is nothing to train."""
        self.classifier = self.untrained.fresh()
        self.probabilities = self._own = None
        self.share = 0.0
        if data.indices:
            rows = gather(self._pool, np.asarray(data.indices, dtype=np.intp))
            self.classifier.fit(rows, data.labels, data.weights)

    def score(self) -> NDArray[Any] | None:
        """Return the probabilities of the pool, computed once after each training."""
        if self.probabilities is None:
            answering = self.answering
            if isinstance(answering, BlendedClassifier):
                self.probabilities = answering.mixed(
                    self._score_own(), self._score_earlier(answering.earlier)
                )
            elif answering is self.earlier:
                self.probabilities = self._score_earlier(answering)
            elif self.can_predict:
                self.probabilities = self._score_own()
        return self.probabilities

    def _score_own(self) -> NDArray[Any]:
        if self._own is None:
            self._own = self._scorer(self.classifier, self._pool)
        return self._own

    def _score_earlier(self, earlier: Classifier) -> NDArray[Any]:
        if self._of_earlier is None:
            self._of_earlier = self._scorer(earlier, self._pool)
        return self._of_earlier

    def predict(self, crops: NDArray[Any]) -> NDArray[Any]:
        """Return the most probable class of these crops to the trained classifier, as (m,) columns of its `classes_`.

        They are scored alone while the pool has not been.
        """
        if self._own is not None:
            return np.asarray(self._own[crops].argmax(axis=1))
        return np.asarray(self.classifier.predict_proba(gather(self._pool, crops)).argmax(axis=1))


def _scored_here(classifier: Classifier, pool: Rows) -> NDArray[Any]:
    return classifier.predict_proba(pool)
