"""The input and the result of a round of active learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from everylabel.model.earlier_model import EarlierShare
from everylabel.model.evaluation.accuracy import AccuracyEstimate
from everylabel.model.evaluation.check_set import CheckSetEstimate
from everylabel.model.evaluation.stopping import PoolPredictions, StoppingAdvice
from everylabel.model.label_quality.label_errors import LabelIssue
from everylabel.model.pseudo_labels.confident_crops import PseudoLabel


@dataclass(frozen=True)
class TrainingData:
    """The training set: labels of people by ascending index, then pseudo-labels."""

    indices: tuple[int, ...]
    labels: tuple[str, ...]
    weights: NDArray[Any]
    """(n,) float: 1 for a human label, less for a pseudo-label.

    With pseudo-labels of several classes a crop (n, k), a column for each single class, sorted; 0 where nothing is
    learned of a class from a crop.
    """
    is_pseudo: NDArray[Any]
    """(n,) bool."""


@dataclass(frozen=True)
class Round:
    """The findings of a round, and the crops that a person is asked to label next."""

    number: int
    n_labels: int
    classes: tuple[str, ...]
    """The columns of `probabilities`: the classes that have a label or that an earlier model with a say knows, sorted."""
    check: tuple[int, ...]
    """Blind check crops to label next, sampled uniformly, the oldest first."""
    batch: tuple[int, ...]
    """Crops to label next: by rising confidence; before there is a model, in the strategy's order."""
    probabilities: NDArray[Any] | None
    """(n, k) float32 of every pool crop; None before two classes are known and without an earlier model."""
    threshold: float
    pseudo_labels: Sequence[PseudoLabel]
    """Highest confidence first; never a labelled, excluded or check crop, but possibly one of the batch.

    There may be as many as the pool has crops: of a large one take the first, they are made as they are read.
    """
    label_issues: tuple[LabelIssue, ...]
    """Most suspicious first."""
    check_set: CheckSetEstimate | None
    """The plain count on the blind check crops."""
    seconds: dict[str, float]
    """Wall time by phase: train, score, select, pseudo_label, audit."""
    trained_on_pseudo_labels: int = 0
    """How many crops the classifier was trained on besides the labelled ones."""
    single_classes: tuple[str, ...] = ()
    """Classes with one label: nothing checks it, so no pseudo-label is shown of them and no label issue found there."""
    predictions: PoolPredictions | None = None
    """For the next rounds' stopping advice: keep them and give them to `set_previous_predictions`."""
    stopping: StoppingAdvice | None = None
    accuracy: AccuracyEstimate | None = None
    """Of the model in use, on the crops without a label; None without an audit, and where nothing can be said yet."""
    earlier: EarlierShare | None = None
    """How much an earlier project's model has to say, and why; None where there is none."""
