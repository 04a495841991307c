"""Pseudo-labels by threshold: crops whose class the model is confident of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from everylabel.model.pool import Rows
from everylabel.model.pseudo_labels.base import PseudoLabelQuery, PseudoLabelRule, TrainingPseudoLabels
from everylabel.model.torch_module import predict_proba

Crops = TypeVar("Crops", NDArray[Any], torch.Tensor)

MAX_PSEUDO_RATIO = 0.5
"""Pseudo-labels taken at most for each label of a person."""
PSEUDO_LABEL_WEIGHT = 0.5
"""Of a pseudo-label in training, where the label of a person weighs 1."""


@dataclass(frozen=True)
class PseudoLabels:
    """The predicted classes of n crops; unpacks as `mask, confidences = ...`."""

    mask: NDArray[Any]
    """(n,) bool: the confidence reaches the threshold."""
    confidences: NDArray[Any]
    """(n,) float32: the probability of the most probable class, of every crop."""
    labels: NDArray[Any]
    """(n,) int: the most probable class (its column), of every crop."""
    threshold: float

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter((self.mask, self.confidences))


class PseudoLabeler:
    """Confidence thresholding with a threshold that falls as the model earns trust.

    `threshold` starts at `initial_threshold` and falls by `decay_per_round` a `step()`, never below
    `min_threshold`.

    Args:
        initial_threshold: the confidence needed at first.
        min_threshold: the confidence needed at last.
        decay_per_round: by how much the threshold falls a step.
        min_labels: labels of people needed before a session takes any pseudo-label.

    Raises:
        ValueError: the thresholds are not 0 < min <= initial <= 1, or the decay is negative.
    """

    def __init__(
        self,
        initial_threshold: float = 0.9,
        min_threshold: float = 0.7,
        decay_per_round: float = 0.02,
        min_labels: int = 10,
    ) -> None:
        if not 0 < min_threshold <= initial_threshold <= 1:
            raise ValueError(
                "thresholds must satisfy 0 < min <= initial <= 1, "
                f"got min {min_threshold}, initial {initial_threshold}"
            )
        if decay_per_round < 0:
            raise ValueError(f"decay_per_round must not be negative, got {decay_per_round}")
        self.initial_threshold = initial_threshold
        self.min_threshold = min_threshold
        self.decay_per_round = decay_per_round
        self.min_labels = min_labels
        self.steps = 0

    @property
    def threshold(self) -> float:
        """The confidence a pseudo-label needs now."""
        # Rounded: 0.9 - 0.02 - 0.02 should be 0.86, and equal to itself after a restart.
        return max(self.min_threshold, round(self.initial_threshold - self.steps * self.decay_per_round, 9))

    def follow(self, n_labels: int, batch_size: int) -> None:
        """Set the threshold for a number of labels: it falls once a batch of labels, not once a call.

        A round may follow every single label.
        """
        self.reset()
        self.step(max(0, n_labels - self.min_labels) // batch_size)

    def step(self, times: int = 1) -> None:
        """Count `times` rounds: the threshold falls."""
        self.steps += times

    def reset(self) -> None:
        """Go back to the initial threshold."""
        self.steps = 0

    def select(self, probabilities: NDArray[Any]) -> PseudoLabels:
        """Pseudo-label by (n, k) probabilities, which may have no rows."""
        n = len(probabilities)
        labels = probabilities.argmax(axis=1) if n else np.zeros(0, dtype=np.intp)
        confidences = probabilities[np.arange(n), labels].astype(np.float32)
        return PseudoLabels(confidences >= self.threshold, confidences, labels, self.threshold)

    def generate_pseudo_labels(
        self, model: torch.nn.Module, unlabeled_crops: Rows, device: str | torch.device = "cpu"
    ) -> PseudoLabels:
        """Pseudo-label (n, ...) crops by a torch module, read as in `everylabel.model.torch_module.predict_proba`."""
        return self.select(predict_proba(model, unlabeled_crops, device))


def expand_with_pseudo_labels(
    train_crops: Crops,
    train_labels: Sequence[object] | NDArray[Any],
    pseudo_crops: Crops,
    pseudo_labels: Sequence[object] | NDArray[Any],
    max_pseudo_ratio: float = MAX_PSEUDO_RATIO,
) -> tuple[Crops, NDArray[Any]]:
    """Append pseudo-labelled crops to a training set, at most `max_pseudo_ratio` of them a real label.

    Pseudo-labels are taken from the front, so give the most confident first.

    Returns:
        Crops and (n,) labels: the real ones, unchanged and in order, then the pseudo-labelled.

    Raises:
        ValueError: crops and labels do not pair up, or the ratio is negative.
    """
    if len(train_crops) != len(train_labels) or len(pseudo_crops) != len(pseudo_labels):
        raise ValueError(
            f"crops and labels must pair up: {len(train_crops)} crops with {len(train_labels)} labels, "
            f"{len(pseudo_crops)} pseudo-labelled crops with {len(pseudo_labels)} labels"
        )
    if max_pseudo_ratio < 0:
        raise ValueError(f"max_pseudo_ratio must not be negative, got {max_pseudo_ratio}")
    taken = min(len(pseudo_labels), _budget(len(train_labels), max_pseudo_ratio))
    real = np.asarray(train_labels)
    if taken == 0:
        return train_crops, real
    labels = np.concatenate([real, np.asarray(pseudo_labels)[:taken]])
    if isinstance(train_crops, torch.Tensor):
        return torch.cat([train_crops, torch.as_tensor(pseudo_crops[:taken])]), labels
    return np.concatenate([train_crops, pseudo_crops[:taken]]), labels


class ThresholdRule(PseudoLabelRule):
    """Takes the most confident crops, at most one to two labels of people; each weighs half a label.

    So pseudo-labels are a fifth of the whole.
    """

    name = "threshold"
    needs_scores = True

    def select(self, query: PseudoLabelQuery) -> TrainingPseudoLabels:
        """Choose the most confident crops first."""
        taken = query.confident()[: _budget(len(query.labels), MAX_PSEUDO_RATIO)]
        return TrainingPseudoLabels(
            tuple(taken.indices.tolist()), taken.labels, np.full(len(taken), PSEUDO_LABEL_WEIGHT)
        )


def _budget(n_labels: int, max_pseudo_ratio: float) -> int:
    return int(max_pseudo_ratio * n_labels)
