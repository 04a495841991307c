"""Pseudo-labels: what a confident model says of crops nobody has labelled yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray

from model.pool import Rows
from model.torch_module import predict_proba

Crops = TypeVar("Crops", NDArray[Any], torch.Tensor)


@dataclass(frozen=True)
class PseudoLabel:
    """A confident guess for one pool crop; it never becomes an annotation by itself."""

    index: int
    label: str
    confidence: float


@dataclass(frozen=True)
class PseudoLabels:
    """The guesses for n crops; unpacks as `mask, confidences = ...`."""

    mask: NDArray[Any]
    """(n,) bool: the confidence reaches the threshold."""
    confidences: NDArray[Any]
    """(n,) float32: the probability of the most probable class, of every crop."""
    labels: NDArray[Any]
    """(n,) int: the most probable class (its column), of every crop."""
    threshold: float

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter((self.mask, self.confidences))

    def class_mask(self, code: int) -> NDArray[Any]:
        """(n,) bool: confident, and of this class."""
        return np.asarray(self.mask & (self.labels == code))

    def most_confident_first(self) -> NDArray[Any]:
        """Positions of the confident crops, highest confidence first: the order to expand in."""
        return highest_first(self.confidences, np.flatnonzero(self.mask))


class ConfidentCrops(Sequence[PseudoLabel]):
    """Pseudo-labels kept as arrays, most confident first; a `PseudoLabel` is made where one is looked at.

    In a pool of a million most crops may be confident: as objects they would cost a second and 300 MB, and a
    round shows fifty of them. They are sorted when the first is looked at.
    """

    def __init__(
        self,
        indices: NDArray[Any],
        codes: NDArray[Any],
        confidences: NDArray[Any],
        classes: tuple[str, ...],
        *,
        in_order: bool = False,
    ) -> None:
        self._arrays = indices, codes, confidences
        self._classes = classes
        self._in_order = in_order

    @property
    def indices(self) -> NDArray[Any]:
        """(n,) pool indices."""
        return self._sorted()[0]

    @property
    def codes(self) -> NDArray[Any]:
        """(n,) positions of their labels among the classes of the round."""
        return self._sorted()[1]

    @property
    def confidences(self) -> NDArray[Any]:
        """(n,) float32, falling."""
        return self._sorted()[2]

    @property
    def labels(self) -> tuple[str, ...]:
        """Their n class names."""
        return tuple(self._classes[code] for code in self.codes.tolist())

    def __len__(self) -> int:
        return len(self._arrays[0])

    @overload
    def __getitem__(self, key: int) -> PseudoLabel: ...
    @overload
    def __getitem__(self, key: slice) -> ConfidentCrops: ...
    def __getitem__(self, key: int | slice) -> PseudoLabel | ConfidentCrops:
        indices, codes, confidences = self._sorted()
        if isinstance(key, slice):
            return ConfidentCrops(indices[key], codes[key], confidences[key], self._classes, in_order=True)
        return PseudoLabel(int(indices[key]), self._classes[int(codes[key])], float(confidences[key]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(
            mine == theirs for mine, theirs in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} crops)"

    def _sorted(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        if not self._in_order:
            indices, codes, confidences = self._arrays
            order = highest_first(confidences, np.arange(len(confidences)))
            self._arrays = indices[order], codes[order], confidences[order]
            self._in_order = True
        return self._arrays


NONE_CONFIDENT = ConfidentCrops(np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0, np.float32), ())


class PseudoLabeler:
    """Confidence thresholding with a threshold that falls as the model earns trust.

    `threshold` starts at `initial_threshold` and falls by `decay_per_round` a `step()`, never below
    `min_threshold`.
    """

    def __init__(
        self, initial_threshold: float = 0.9, min_threshold: float = 0.7, decay_per_round: float = 0.02
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
        self.steps = 0

    @property
    def threshold(self) -> float:
        """The confidence a pseudo-label needs now."""
        # Rounded: 0.9 - 0.02 - 0.02 should be 0.86, and equal to itself after a restart.
        return max(self.min_threshold, round(self.initial_threshold - self.steps * self.decay_per_round, 9))

    def step(self, times: int = 1) -> None:
        """Count `times` rounds: the threshold falls."""
        self.steps += times

    def reset(self) -> None:
        """Back to the initial threshold."""
        self.steps = 0

    def select(self, probabilities: NDArray[Any]) -> PseudoLabels:
        """Judge (n, k) probabilities, which may have no rows."""
        n = len(probabilities)
        labels = probabilities.argmax(axis=1) if n else np.zeros(0, dtype=np.intp)
        confidences = probabilities[np.arange(n), labels].astype(np.float32)
        return PseudoLabels(confidences >= self.threshold, confidences, labels, self.threshold)

    def generate_pseudo_labels(
        self, model: torch.nn.Module, unlabeled_crops: Rows, device: str | torch.device = "cpu"
    ) -> PseudoLabels:
        """Judge (n, ...) crops by a torch module, read as in `model.torch_module.predict_proba`."""
        return self.select(predict_proba(model, unlabeled_crops, device))


def highest_first(confidences: NDArray[Any], positions: NDArray[Any]) -> NDArray[Any]:
    """Ascending `positions` by falling confidence, equal ones in their order.

    A confidence's bits and its position make one number, so that numpy's vectorised sort orders a million in
    milliseconds; a stable argsort takes fifteen times as long.
    """
    if len(confidences) >= 2**32:
        return positions[np.argsort(-confidences[positions], kind="stable")]
    # The bits of floats that are not negative are in the order of the floats.
    bits = np.ascontiguousarray(confidences[positions], dtype=np.float32).view(np.uint32)
    keys = (np.uint64(2**32 - 1) - bits.astype(np.uint64)) << np.uint64(32)
    keys |= positions.astype(np.uint64)
    keys.sort()
    return (keys & np.uint64(2**32 - 1)).astype(np.intp)


def expand_with_pseudo_labels(
    train_crops: Crops,
    train_labels: Sequence[object] | NDArray[Any],
    pseudo_crops: Crops,
    pseudo_labels: Sequence[object] | NDArray[Any],
    max_pseudo_ratio: float = 0.5,
) -> tuple[Crops, NDArray[Any]]:
    """Append pseudo-labelled crops to a training set, at most `max_pseudo_ratio` of them a real label.

    Pseudo-labels are taken from the front, so give the most confident first. Returns crops and (n,) labels:
    the real ones, unchanged and in order, then the pseudo-labelled. Raises ValueError when crops and labels
    do not pair up.
    """
    if len(train_crops) != len(train_labels) or len(pseudo_crops) != len(pseudo_labels):
        raise ValueError(
            f"crops and labels must pair up: {len(train_crops)} crops with {len(train_labels)} labels, "
            f"{len(pseudo_crops)} pseudo-labelled crops with {len(pseudo_labels)} labels"
        )
    if max_pseudo_ratio < 0:
        raise ValueError(f"max_pseudo_ratio must not be negative, got {max_pseudo_ratio}")
    taken = min(len(pseudo_labels), int(max_pseudo_ratio * len(train_labels)))
    real = np.asarray(train_labels)
    if taken == 0:
        return train_crops, real
    labels = np.concatenate([real, np.asarray(pseudo_labels)[:taken]])
    if isinstance(train_crops, torch.Tensor):
        return torch.cat([train_crops, torch.as_tensor(pseudo_crops[:taken])]), labels
    return np.concatenate([train_crops, pseudo_crops[:taken]]), labels
