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
    classes_in: Callable[[str], tuple[str, ...]] | None = None
    """Gives the single classes of a label where a crop may have several; None where it has one."""


@dataclass(frozen=True)
class TrainingPseudoLabels:
    """Pseudo-labels that training uses."""

    indices: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    weights: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    """(n,) float; the label of a person weighs 1.

    Where a crop may have several classes (n, k), a column for each single class that people have given, sorted; 0 where
    nothing is learned of a class from a crop.
    """
    scores: NDArray[Any] | None = None
    """(n_labels, k) out-of-fold scores of the labels of people, where the rule has them: for calibration.

    Where a crop may have several classes they say how far `yes` is ahead of `no`, and are NaN for a class without
    pseudo-labels.
    """


class PseudoLabelRule(ABC):
    """Chooses the pseudo-labels a model is trained on besides the labels of people."""

    name: ClassVar[str]
    needs_scores: ClassVar[bool]
    """Whether `select` calls `query.confident`, so that the pool may as well be scored before."""

    @abstractmethod
    def select(self, query: PseudoLabelQuery) -> TrainingPseudoLabels:
        """Choose among the free crops; there may be none."""
