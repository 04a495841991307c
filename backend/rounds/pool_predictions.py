"""What the model in use says of every crop of a project: arrays, for there may be a million."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.store import Store
    from everylabel.model.classifiers.base import Classifier

ROWS = 1 << 16
"""Crops whose probabilities of every class are in memory at once; a whole number of the classifier's own chunks."""


@dataclass(frozen=True)
class Judgement:
    """The class of each crop that has an embedding, by task id."""

    classes: tuple[str, ...]
    tasks: NDArray[Any]
    """(m,) int64, ascending."""
    best: NDArray[Any]
    """(m,) position in `classes`."""
    confidence: NDArray[Any]
    """(m,) float32: calibrated probability of that class."""

    def sure(self, min_confidence: float, control: ImageChoices, without: Collection[str] = ()) -> Judgement:
        """Return those that are that sure of a class the labeling config still has: no other can be written.

        Args:
            min_confidence: the least confidence, 0 to 1.
            control: what the labeling config asks.
            without: classes that are left out.
        """
        left_out = {*without}
        known = np.array(
            [control.knows(name) and left_out.isdisjoint(control.names(name)) for name in self.classes],
            dtype=bool,
        )
        which = (self.confidence >= min_confidence) & known[self.best]
        return Judgement(self.classes, self.tasks[which], self.best[which], self.confidence[which])

    def of(self, task_id: int) -> tuple[str, float] | None:
        """The class of one crop, and how sure that is; None where it is not among these."""
        place = int(np.searchsorted(self.tasks, task_id))
        if place == len(self.tasks) or self.tasks[place] != task_id:
            return None
        return self.classes[self.best[place]], float(self.confidence[place])


def judge(store: Store, embeddings: Embeddings, project_id: int, model: Classifier) -> Judgement:
    """Judge every crop of a project that has an embedding."""
    tasks, rows = store.embedding_rows(project_id)
    pool = embeddings.read(project_id)
    best = np.empty(len(pool), dtype=np.intp)
    confidence = np.empty(len(pool), dtype=np.float32)
    for start in range(0, len(pool), ROWS):
        part = slice(start, start + ROWS)
        probabilities = model.predict_proba(pool[part])
        best[part], confidence[part] = probabilities.argmax(axis=1), probabilities.max(axis=1)
    return Judgement(model.classes_, tasks, best[rows], confidence[rows])
