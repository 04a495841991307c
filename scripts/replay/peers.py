"""Strategies of scikit-activeml behind our contract, run from their own package."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.query import Query, QueryStrategy
from everylabel.model.query.base import count

# name -> extra arguments of the constructor. Those that need a classifier get ours, fitted to the same labels.
PEERS: dict[str, dict[str, Any]] = {
    "UncertaintySampling": {"method": "margin_sampling"},
    "CoreSet": {},
    "TypiClust": {},
    "ProbCover": {},
    "Badge": {},
    "DropQuery": {},
    "MaxHerding": {},
    "Falcun": {},
    "Clue": {},
    "ContrastiveAL": {},
}
HOW_TO_INSTALL = f"scikit-activeml is not installed: {sys.executable} -m pip install 'everylabel[benchmark]'"


def peers_work() -> bool:
    """Return True where scikit-activeml and all that it needs are installed."""
    try:
        import_module("skactiveml.pool")
    except ImportError:
        return False
    return True


class PeerStrategy(QueryStrategy):
    """A strategy of scikit-activeml 1.x; one that needs a classifier samples at random before two classes are known."""

    name: ClassVar[str] = "skactiveml"

    def __init__(self, peer: str) -> None:
        if find_spec("skactiveml") is None:
            raise ValueError(HOW_TO_INSTALL)
        if peer not in PEERS:
            raise ValueError(f"unknown scikit-activeml strategy {peer!r}: choose one of {', '.join(PEERS)}")
        self.peer = peer

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Query the strategy with all features of the pool in memory, as scikit-activeml wants them."""
        from skactiveml import pool  # noqa: PLC0415 - an optional extra

        size = count(query, batch_size)
        if size == 0:
            return []
        features = np.asarray(query.features[np.arange(len(query.features))], dtype=np.float64)
        labels = np.full(len(features), np.nan)
        labels[query.labeled] = query.labels
        chosen = getattr(pool, self.peer)(random_state=query.seed % 2**31, **PEERS[self.peer])
        given: dict[str, Any] = {"candidates": np.sort(query.candidates), "batch_size": size}
        needs_classifier = self.peer in _WITH_CLASSIFIER
        if needs_classifier and query.probabilities is None:
            chosen = pool.RandomSampling(random_state=query.seed % 2**31)
        elif needs_classifier:
            key = "estimator" if self.peer == "Clue" else "clf"
            classes = np.unique(query.labels)
            given |= {key: _head(features, labels, classes), f"fit_{key}": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about clusters of duplicates, and its own deprecations
            return [int(index) for index in chosen.query(features, labels, **given)]


_WITH_CLASSIFIER = {"UncertaintySampling", "Badge", "DropQuery", "Falcun", "Clue", "ContrastiveAL"}


def _head(features: NDArray[Any], labels: NDArray[Any], classes: NDArray[Any]) -> Any:
    """Return our classifier, fitted, behind scikit-activeml's interface."""
    known = np.flatnonzero(~np.isnan(labels))
    head = (
        EmbeddingClassifier()
        .adapt(features)
        .fit(features[known], [f"{int(code):06d}" for code in labels[known]])
    )
    return _classifier_class()(head.predict_proba, classes=classes).fit(features[known], labels[known])


def _classifier_class() -> Any:
    from skactiveml.base import SkactivemlClassifier  # noqa: PLC0415 - an optional extra

    class Head(SkactivemlClassifier):  # type: ignore[misc]
        """Answers with the probabilities of a head that is fitted already."""

        def __init__(
            self,
            probabilities: Callable[[NDArray[Any]], NDArray[Any]],
            classes: Any = None,
            missing_label: float = np.nan,
            cost_matrix: Any = None,
            random_state: Any = None,
        ) -> None:
            super().__init__(
                classes=classes,
                missing_label=missing_label,
                cost_matrix=cost_matrix,
                random_state=random_state,
            )
            self.probabilities = probabilities

        def fit(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
            self._validate_data(x, y, sample_weight)
            return self

        def predict_proba(self, x: Any) -> Any:
            return np.asarray(self.probabilities(x), dtype=np.float64)

    return Head
