"""Predict every crop of a project with the model in use, in arrays: there may be a million crops."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.store import Project, Store
    from everylabel.model.classifiers.base import Classifier

ROWS = 1 << 16
"""Crops whose probabilities are in memory at a time; a whole number of the classifier's own chunks."""


@dataclass(frozen=True)
class PoolPredictions:
    """The predicted classes of the crops that have an embedding, sorted by task id."""

    classes: tuple[str, ...]
    tasks: NDArray[Any]
    """(m,) int64, ascending."""
    best: NDArray[Any]
    """(m,) int, the position of the predicted class in `classes`."""
    confidence: NDArray[Any]
    """(m,) float32, the calibrated probability of that class, 0 to 1."""

    def confident(
        self, min_confidence: float, control: ImageChoices, without: Collection[str] = ()
    ) -> PoolPredictions:
        """Return the predictions of at least this confidence whose class is still in the labeling config.

        Args:
            min_confidence: The lowest confidence to return, 0 to 1.
            control: The classes of the labeling config; no other class can be written to Label Studio.
            without: Classes to leave out.

        Returns:
            A subset of these predictions, in the same order.
        """
        left_out = {*without}
        known = np.array(
            [control.knows(name) and left_out.isdisjoint(control.names(name)) for name in self.classes],
            dtype=bool,
        )
        which = (self.confidence >= min_confidence) & known[self.best]
        return PoolPredictions(self.classes, self.tasks[which], self.best[which], self.confidence[which])

    def of(self, task_id: int) -> tuple[str, float] | None:
        """Return the predicted class of one crop and its confidence, or None if there is no prediction of it."""
        place = int(np.searchsorted(self.tasks, task_id))
        if place == len(self.tasks) or self.tasks[place] != task_id:
            return None
        return self.classes[self.best[place]], float(self.confidence[place])


class EncoderSwitchedError(RuntimeError):
    """Raised if a project has another encoder by now than a model that is to predict its crops."""

    def __init__(self, project_id: int) -> None:
        super().__init__(f"The encoder of project {project_id} was switched meanwhile. Try again.")


def predict_pool(
    store: Store, embeddings: Embeddings, project: Project, model: Classifier
) -> PoolPredictions:
    """Predict the class of every crop of a project that has an embedding.

    Args:
        store: Knows which crops have an embedding, and in which row.
        embeddings: Reads the rows.
        project: The project, read before its model was.
        model: Its classifier in use.

    Returns:
        One prediction for each embedded crop.

    Raises:
        EncoderSwitchedError: The rows are of another encoder by now.
    """
    tasks, rows = store.embedding_rows(project.id)
    pool = embeddings.read(project.id)
    now = store.project(project.id)
    in_use = embeddings.named(embeddings.name(project)).signature
    if now is None or now.encoder != project.encoder or project.encoder != in_use:
        raise EncoderSwitchedError(project.id)
    best = np.empty(len(pool), dtype=np.intp)
    confidence = np.empty(len(pool), dtype=np.float32)
    for start in range(0, len(pool), ROWS):
        part = slice(start, start + ROWS)
        probabilities = model.predict_proba(pool[part])
        best[part], confidence[part] = probabilities.argmax(axis=1), probabilities.max(axis=1)
    return PoolPredictions(model.classes_, tasks, best[rows], confidence[rows])
