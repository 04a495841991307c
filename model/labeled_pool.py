"""A pool and its labels: which crops are labelled, which are left out, and which belong to the check set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.pool import Rows, sample


class LabeledPool:
    """A pool of crops with their labels, its exclusions and the check crops sampled so far.

    Invariants: a crop has at most one label; every index lies in the pool.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.excluded: NDArray[Any] = np.zeros(len(rows), dtype=bool)
        """(n,) bool."""
        self.check: list[int] = []
        """Every crop ever sampled for the check set, in the order sampled."""
        self.label_changes = 0
        """Counts changes of labels."""
        self.changes = 0
        """Counts changes of labels and exclusions."""
        self._labels: dict[int, str] = {}

    @property
    def n_labels(self) -> int:
        """The number of labelled crops."""
        return len(self._labels)

    @property
    def labels(self) -> dict[int, str]:
        """The labels so far by crop, ascending."""
        return {index: self._labels[index] for index in sorted(self._labels)}

    def add_labels(self, indices: Iterable[int], labels: Iterable[str]) -> None:
        """Set the class names of crops; a second label for a crop replaces its first.

        Raises:
            ValueError: the two differ in length; nothing is then set.
            IndexError: a crop is outside the pool; nothing is then set.
        """
        crops, names = self.checked(indices), [str(label) for label in labels]
        if len(crops) != len(names):
            raise ValueError(f"one label a crop is needed: got {len(crops)} crops and {len(names)} labels")
        self._labels.update(zip(crops, names, strict=True))
        self._count_label_change()

    def remove_labels(self, indices: Iterable[int]) -> None:
        """Forget labels that were withdrawn; crops without one are passed over."""
        for index in self.checked(indices):
            self._labels.pop(index, None)
        self._count_label_change()

    def exclude(self, indices: Iterable[int]) -> None:
        """Mark crops as unusable."""
        self.excluded[self.checked(indices)] = True
        self.changes += 1

    def set_check(self, sampled: Iterable[int]) -> None:
        """Restore the check crops sampled so far, in their order."""
        self.check = list(dict.fromkeys(self.checked(sampled)))

    def top_up_check(self, wanted: int, seed: int) -> None:
        """Sample check crops uniformly until there are `wanted` that are not excluded.

        A check crop stays until it is labelled or excluded.
        """
        missing = wanted - sum(1 for index in self.check if not self.excluded[index])
        if missing > 0:
            rng = np.random.default_rng([seed, len(self.check), 2])
            found = sample(np.flatnonzero(self.free()), missing, rng)
            self.check.extend(int(index) for index in found)

    def pending_check(self) -> list[int]:
        """Return the check crops that wait for a label, the oldest first."""
        return [index for index in self.check if index not in self._labels and not self.excluded[index]]

    def free(self) -> NDArray[Any]:
        """Return which crops may be asked for or pseudo-labelled, (n,) bool: no label, no exclusion, no check crop."""
        free = ~self.excluded
        free[list(self._labels)] = False
        free[self.check] = False
        return free

    def single_classes(self, classes_in: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
        """Return the classes with one label, sorted; `classes_in` takes the label of several classes apart."""
        counts = Counter(name for label in self._labels.values() for name in classes_in(label))
        return tuple(sorted(name for name, count in counts.items() if count == 1))

    def checked(self, indices: Iterable[int]) -> list[int]:
        """Return the indices as a list.

        Raises:
            IndexError: a crop is outside the pool.
        """
        crops = np.fromiter(indices, dtype=np.intp)
        outside = crops[(crops < 0) | (crops >= len(self.rows))]
        if len(outside):
            raise IndexError(
                f"crops {outside[:5].tolist()} are not in the pool, which has crops 0 to {len(self.rows) - 1}"
            )
        found: list[int] = crops.tolist()
        return found

    def _count_label_change(self) -> None:
        self.label_changes += 1
        self.changes += 1
