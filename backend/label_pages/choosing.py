"""Choose the crops of a page: of one class and alike, so that a person sees an exception at a glance.

A page of a class shows crops that the model predicts to be of it, with or without others where a crop may have
several. The most useful of them are the least confident, and a page of those has so many exceptions that it is read
crop by crop. So the page is taken from where the two meet: from the confidence at which one crop in ten is expected
to be an exception, upwards. Of the crops closest to it, those are taken that lie beside each other on the map of the
pool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model import label_set

PAGE = 24
"""Crops on a page."""
FRONTIER = 0.9
"""The confidence that a page of a class begins at: one crop in ten is expected to be an exception."""
SHORTLIST = 8 * PAGE
"""So many of the crops closest to the frontier are looked at for those that lie beside each other."""


@dataclass(frozen=True)
class PredictedCrops:
    """Crops that the model predicts, and where they lie on the map."""

    tasks: NDArray[Any]
    """(n,) int64."""
    codes: NDArray[Any]
    """(n,) integers: the position of the predicted label in `classes`."""
    confidence: NDArray[Any]
    """(n,) calibrated probability of that label, 0 to 1."""
    positions: NDArray[Any]
    """(n, 2) where the crop lies on the map; NaN where it is not on it."""
    classes: tuple[str, ...]
    """The labels that are predicted: classes, or sets of them."""
    several: bool = False
    """Whether they are sets of classes, written as `everylabel.model.label_set` does."""

    def without(self, tasks: Collection[int]) -> PredictedCrops:
        """Return these crops without some."""
        kept = ~np.isin(self.tasks, np.fromiter(tasks, dtype=np.int64, count=len(tasks)))
        return self.at(kept)

    def of(self, class_name: str) -> PredictedCrops:
        """Return those of these crops that are predicted to be of a class, by itself or with others."""
        with_it = [code for code, label in enumerate(self.classes) if class_name in self._names(label)]
        return self.at(np.isin(self.codes, with_it))

    def labels(self, tasks: Collection[int]) -> dict[int, str]:
        """Return the predicted label of each of some tasks, in their order."""
        found = self.at(np.isin(self.tasks, np.fromiter(tasks, dtype=np.int64, count=len(tasks))))
        label_of = {
            int(task): self.classes[code] for task, code in zip(found.tasks, found.codes, strict=True)
        }
        return {task: label_of[task] for task in tasks}

    def at(self, which: NDArray[Any]) -> PredictedCrops:
        """Return some of these crops, by a mask or by their places."""
        return PredictedCrops(
            self.tasks[which],
            self.codes[which],
            self.confidence[which],
            self.positions[which],
            self.classes,
            self.several,
        )

    def counts(self) -> dict[str, int]:
        """Return how many of these crops are predicted to be of each class; one of several counts for each of them."""
        found = np.bincount(self.codes.astype(np.int64), minlength=len(self.classes))
        counts: Counter[str] = Counter()
        for label, n in zip(self.classes, found, strict=True):
            counts.update(dict.fromkeys(self._names(label), int(n)))
        return dict(counts)

    def _names(self, label: str) -> tuple[str, ...]:
        return label_set.split(label) if self.several else (label,)


def choose_of_class(crops: PredictedCrops, size: int = PAGE) -> list[int]:
    """Return the tasks of a page of crops that are predicted to be of one class.

    Args:
        crops: The crops of that class that may be on the page.
        size: The most crops of a page.

    Returns:
        The tasks, those first that the model is least confident of.
    """
    shortlist = crops.at(by_frontier(crops.confidence)[:SHORTLIST])
    if not len(shortlist.tasks):
        return []
    page = shortlist.at(beside_the_first(shortlist.positions, size))
    return [int(task) for task in page.tasks[np.argsort(page.confidence, kind="stable")]]


def by_frontier(confidence: NDArray[Any]) -> NDArray[Any]:
    """Return the order of crops from the frontier upwards, and then from it downwards.

    Args:
        confidence: (n,) of each crop.

    Returns:
        (n,) places.
    """
    below = confidence < FRONTIER
    order: NDArray[Any] = np.lexsort((np.where(below, -confidence, confidence), below))
    return order


def best_class(crops: PredictedCrops, classes: Sequence[str]) -> str | None:
    """Return the class with the most crops from the frontier upwards, or else with the most crops at all."""
    confident = crops.at(crops.confidence >= FRONTIER).counts()
    every = crops.counts()
    known = [name for name in classes if every.get(name)]
    return max(known, key=lambda name: (confident.get(name, 0), every[name]), default=None)


def beside_the_first(positions: NDArray[Any], size: int = PAGE) -> NDArray[Any]:
    """Return the places of the first crop and of those beside it on the map; crops that are not on it come last.

    Args:
        positions: (n, 2) where each crop lies, NaN where it is not on the map; n is at least 1.
        size: The most places.

    Returns:
        Up to `size` places, the nearest first.
    """
    away = np.linalg.norm(positions - positions[0], axis=1)
    away[0] = 0.0
    order: NDArray[Any] = np.argsort(np.where(np.isnan(away), np.inf, away), kind="stable")
    return order[:size]
