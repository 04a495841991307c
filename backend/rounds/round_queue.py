"""Make the queue of a round: the crops that Label Studio serves, their order, and what is pre-filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.label_studio.publisher import Queue, QueuedCrop, version_name
from everylabel.model.pseudo_labels.pre_annotated import mix_in

if TYPE_CHECKING:
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.settings import Settings
    from everylabel.backend.store import Store
    from everylabel.model.session import Round


@dataclass(frozen=True)
class QueueMaker:
    """A maker of the queue of one round; a model that is not promoted orders it, but pre-fills nothing.

    Attributes:
        settings: How many crops are pre-filled, and how many suspected labels are shown.
        store: Knows the address of each crop.
        project_id: The project.
        control: The choices of the labeling config.
        outcome: The result of the round.
        task_at: (n,) int, the task of each pool row.
        promoted: True if the round's model comes into use.
        emptied: The label that each row had before its annotation became empty.
        n_before: The number of labels, without those of check crops.
    """

    settings: Settings
    store: Store
    project_id: int
    control: ImageChoices
    outcome: Round
    task_at: NDArray[Any]
    promoted: bool
    emptied: Mapping[int, str]
    n_before: int

    def make(self) -> Queue:
        """Return the queue."""
        outcome, settings = self.outcome, self.settings
        asked = {*outcome.batch, *outcome.check}
        pseudo_labels = (label for label in outcome.pseudo_labels if label.index not in asked)
        most_confident = list(
            islice(pseudo_labels, settings.pre_annotations_per_round if self.promoted else 0)
        )
        batch = mix_in(
            outcome.batch,
            [label.index for label in most_confident],
            n_before=self.n_before,
            share=settings.pre_annotated_share,
        )
        asked |= {*batch}
        confident = [label for label in reversed(most_confident) if label.index not in asked]
        flagged = outcome.label_issues[: settings.flags_per_round]
        lost = dict(islice(self.emptied.items(), settings.flags_per_round))
        urls = self._urls(
            [*asked, *(label.index for label in confident), *(issue.index for issue in flagged), *lost]
        )

        def queued(row: int, label: str | None, confidence: float) -> QueuedCrop:
            task_id = int(self.task_at[row])
            return QueuedCrop(task_id, label, float(confidence), urls.get(task_id))

        return Queue(
            model_version=version_name(outcome.number),
            check=[queued(row, None, 0.0) for row in outcome.check],
            batch=[queued(row, *self._suggested(row)) for row in batch],
            pre_annotated=[queued(p.index, p.label, p.confidence) for p in confident],
            flagged=[queued(issue.index, issue.suggested_label, 1.0 - issue.score) for issue in flagged],
            emptied=[queued(row, label, 1.0) for row, label in lost.items()],
        )

    def _urls(self, rows: list[int]) -> dict[int, str | None]:
        """Return the address of each of these rows' crops, by task."""
        tasks = self.store.tasks(self.project_id, self.task_at[rows].tolist())
        return {task.id: task.image_url for task in tasks}

    def _suggested(self, row: int) -> tuple[str | None, float]:
        """Return the class to pre-fill for a crop of the batch, or None, and the model's confidence, 0 to 1."""
        outcome = self.outcome
        if outcome.probabilities is None:
            return None, 0.0
        best = int(np.argmax(outcome.probabilities[row]))
        confidence = float(outcome.probabilities[row, best])
        label = outcome.classes[best]
        # A prediction below the threshold is not pre-filled: it would bias the annotator.
        confident = self.promoted and confidence >= outcome.threshold
        checked = {*outcome.single_classes}.isdisjoint(self.control.names(label))
        return (label if confident and checked else None), confidence
