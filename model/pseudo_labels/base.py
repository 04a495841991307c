"""The contract of a pseudo-label rule: which crops nobody labelled may training use?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from everylabel.model.pseudo_labels.confident_crops import ConfidentCrops
from everylabel.model.pseudo_labels.pool_graph import PoolGraph


@dataclass(frozen=True)
class PseudoLabelQuery:
    """Everything a rule may look at. Indices are rows of the pool; what costs time is computed when called."""

    labels: Mapping[int, str]
    """The labels of people by crop, ascending."""
    free: NDArray[Any]
    """(n,) bool: crops that may be pseudo-labelled."""
    classes: tuple[str, ...]
    """The classes of the model that is trained on the labels alone."""
    predict: Callable[[NDArray[Any]], NDArray[Any]]
    """Gives the predicted class of some crops, (m,) indices to (m,) columns of `classes`."""
    confident: Callable[[], ConfidentCrops]
    """Gives the crops that clear the round's threshold; scores the whole pool."""
    graph: Callable[[], PoolGraph | None]
    """Gives the pool's neighbour graph; None for a classifier whose features are learned from the labels."""
    seed: int


@dataclass(frozen=True)
class TrainingPseudoLabels:
    """Pseudo-labels that training uses."""

    indices: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    weights: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    """(n,) float; the label of a person weighs 1."""
    scores: NDArray[Any] | None = None
    """(n_labels, k) out-of-fold scores of the labels of people, where the rule has them: for calibration."""


class PseudoLabelRule(ABC):
    """Chooses the pseudo-labels a model is trained on besides the labels of people."""

    name: ClassVar[str]
    needs_scores: ClassVar[bool]
    """Whether `select` calls `query.confident`, so that the pool may as well be scored before."""

    @abstractmethod
    def select(self, query: PseudoLabelQuery) -> TrainingPseudoLabels:
        """Choose among the free crops; there may be none."""
