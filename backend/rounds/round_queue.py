"""Make the queue of a round: the crops that Label Studio serves, their order, and what is pre-filled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.label_studio.publisher import Queue, QueuedCrop, version_name
from everylabel.backend.rounds.reserve import reserve_rows
from everylabel.model.pseudo_labels.pre_annotated import mix_in

if TYPE_CHECKING:
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.settings import Settings
    from everylabel.backend.store import Store
    from everylabel.model.label_quality.label_errors import LabelIssue
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
        open_rows: (n,) bool, the crops that anybody may be asked for.
        spot_check: Tasks of a spot check, which come before the batch and are in no other part of the queue.
        asked: Tasks that somebody has asked for: they come first, those of the two kinds of blind crops excepted.
        second_labels: Labelled tasks that another person is asked about, with nothing that could lead them.
        second_labels_over: Tasks that earlier rounds asked another person about, and this one does not.
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
    open_rows: NDArray[Any]
    spot_check: tuple[int, ...] = ()
    asked: tuple[int, ...] = ()
    second_labels: tuple[int, ...] = ()
    second_labels_over: tuple[int, ...] = ()

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
        served = [*outcome.check, *batch, *(label.index for label in confident)]
        reserve = reserve_rows(outcome, self.open_rows, served, self.settings.seed + self.project_id)
        suspected = self._suspected()
        lost = dict(islice(self.emptied.items(), settings.suspects_per_round))
        urls = self._urls([*served, *reserve, *(issue.index for issue in suspected), *lost])

        def queued(row: int, label: str | None, confidence: float) -> QueuedCrop:
            task_id = int(self.task_at[row])
            return QueuedCrop(task_id, label, float(confidence), urls.get(task_id))

        blind = {*self.spot_check, *self.task_at[[*outcome.check]].tolist()}
        asked_for = [id_ for id_ in self.asked if id_ not in blind]
        first = {*self.spot_check, *asked_for}
        by_id = self.store.tasks(self.project_id, first.union(self.second_labels))
        first_urls = {task.id: task.image_url for task in by_id}

        def by_task(tasks: Iterable[int]) -> list[QueuedCrop]:
            return [QueuedCrop(id_, None, 0.0, first_urls.get(id_)) for id_ in tasks]

        def others(crops: Iterable[QueuedCrop]) -> list[QueuedCrop]:
            return [crop for crop in crops if crop.task_id not in first]

        return Queue(
            model_version=version_name(outcome.number),
            asked=by_task(asked_for),
            spot_check=by_task(self.spot_check),
            check=others(queued(row, None, 0.0) for row in outcome.check),
            batch=others(queued(row, *self._suggested(row)) for row in batch),
            pre_annotated=others(queued(p.index, p.label, p.confidence) for p in confident),
            suspected=[queued(issue.index, issue.suggested_label, 1.0 - issue.score) for issue in suspected],
            emptied=[queued(row, label, 1.0) for row, label in lost.items()],
            reserve=others(queued(row, None, 0.0) for row in reserve),
            second_labels=by_task(self.second_labels),
            second_labels_over=by_task(self.second_labels_over),
        )

    def _suspected(self) -> list[LabelIssue]:
        """Return the suspect labels to show: not those of which another person is asked, who would see the suggestion."""
        issues = (i for i in self.outcome.label_issues if self.task_at[i.index] not in self.second_labels)
        return list(islice(issues, self.settings.suspects_per_round))

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
