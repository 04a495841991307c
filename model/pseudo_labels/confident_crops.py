"""Pseudo-labels to show: crops the model is confident of, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PseudoLabel:
    """The predicted class of one pool crop, with its confidence; it never becomes an annotation by itself."""

    index: int
    label: str
    confidence: float


class ConfidentCrops(Sequence[PseudoLabel]):
    """Pseudo-labels kept as arrays, most confident first; a `PseudoLabel` is made where one is read.

    In a pool of a million most crops may be confident: as objects they would cost a second and 300 MB, and a
    round shows fifty of them. They are sorted when the first is read.
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


def highest_first(confidences: NDArray[Any], positions: NDArray[Any]) -> NDArray[Any]:
    """Sort ascending `positions` by falling confidence, equal ones in their order.

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
