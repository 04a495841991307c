"""Read the input of a round from the store, as it is at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.embedding.embeddings import check_encoder
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.label_config import ImageChoices
from everylabel.backend.rounds.earlier_model import NONE_BEGUN, Heard
from everylabel.backend.rounds.empty_annotations import former_labels
from everylabel.backend.rounds.held_crops import ROUNDS, held_crops
from everylabel.backend.rounds.labels import (
    WeighedVotes,
    closed_tasks,
    counted_annotations,
    resolve_labels,
    weigh_disagreements,
)
from everylabel.backend.rounds.models import make_classifier
from everylabel.backend.store import Annotation, Project, RoundRecord, Store
from everylabel.backend.store.task_rows import CropRows

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.store.files import EmbeddingFile
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.session import ActiveLearningSession

ASKED_SERVED = 100
"""So many crops that were asked for are in one round; the others follow."""
SECOND_LABELS_KEPT = 200
"""So many labelled tasks that are worth one more label are kept with a round."""


@dataclass(frozen=True)
class RoundInput:
    """The input of a round."""

    project: Project
    signature: str
    """Of the encoder whose rows these are."""
    switches: bool
    """Whether that is the encoder that the project is being switched to."""
    control: ImageChoices
    latest: RoundRecord | None
    file: EmbeddingFile
    embedded_until: int
    """The number of rows of the file that were in use; later rows count as new."""
    pool: NDArray[Any]
    """(n, dim) embeddings, memory-mapped."""
    task_at: NDArray[Any]
    """(n,) int, the task of each row; 0 if a row belongs to none."""
    row_of: dict[int, int]
    """The row of each annotated task and of each check crop, if it has one."""
    classifier: Classifier
    """The project's classifier, untrained."""
    annotations: list[Annotation]
    counted: list[Annotation]
    """The annotations that count, oldest change first."""
    votes: WeighedVotes
    """The decisions of CROWDLAB on tasks whose annotators disagree, and what it says of them."""
    labels: dict[int, str]
    """The label of each task that has one."""
    held: set[int]
    """The tasks that somebody has open, and nobody else gets."""
    waiting: list[int]
    """The tasks that somebody has asked to be asked for next, in their order."""
    heard: Heard = NONE_BEGUN
    """The classifier that the project began with."""

    def fill(self, session: ActiveLearningSession) -> None:
        """Give a session the labels, the check crops, and the rows that nobody is asked about."""
        session.exclude(np.flatnonzero(~self._usable_rows()))
        labeled = [
            (self.row_of[id_], label) for id_, label in sorted(self.labels.items()) if id_ in self.row_of
        ]
        session.add_labels([row for row, _ in labeled], [label for _, label in labeled])
        session.set_check_crops(self._rows(self.project.check_tasks))

    def open_rows(self) -> NDArray[Any]:
        """Return which crops anybody may be asked for beside the queue, (n,) bool: no label, and no check crop."""
        is_open = self._usable_rows()
        is_open[self._rows(self.labels)] = False
        is_open[self._rows(self.project.check_tasks)] = False
        return is_open

    def emptied(self) -> dict[int, str]:
        """Return the label that each row had before its annotation became empty."""
        former = former_labels(self.annotations, self.labels, self.control)
        return {self.row_of[id_]: label for id_, label in former.items() if id_ in self.row_of}

    def asked(self) -> tuple[int, ...]:
        """Return the tasks that people are to be asked for before all others, because somebody wants them."""
        left_out = self._annotated() | self.held | {*self.project.check_tasks}
        usable = [id_ for id_ in self.waiting if id_ in self.row_of and id_ not in left_out]
        return tuple(usable[:ASKED_SERVED])

    def trust(self) -> tuple[dict[str, float], list[int]]:
        """Return how often each annotator is right, and the labelled tasks worth one more label, check crops excepted."""
        check_tasks = {*self.project.check_tasks}
        tasks = [id_ for id_ in self.votes.second_labels if id_ not in check_tasks]
        return self.votes.quality, tasks[:SECOND_LABELS_KEPT]

    def waited_enough(self) -> tuple[int, ...]:
        """Return the tasks that were asked for and are annotated by now."""
        annotated = self._annotated()
        return tuple(id_ for id_ in self.waiting if id_ in annotated)

    def _annotated(self) -> set[int]:
        return {annotation.task_id for annotation in self.annotations}

    def _usable_rows(self) -> NDArray[Any]:
        """Return the crops that are of a task, not closed, and held by nobody where others are left, (n,) bool."""
        usable: NDArray[Any] = self.task_at != 0
        usable[self._rows(closed_tasks(self.annotations, self.labels))] = False
        held = self._rows(self.held)
        if np.count_nonzero(usable) > len({*self._rows(self.labels), *held}):
            usable[held] = False
        return usable

    def _rows(self, task_ids: Iterable[int]) -> list[int]:
        return [self.row_of[id_] for id_ in task_ids if id_ in self.row_of]


def read_input(
    store: Store, project: Project, embeddings: Embeddings, now: float, *, switches: bool = False
) -> RoundInput | None:
    """Read the input of a round.

    Args:
        store: Holds the project, its crops and its annotations.
        project: The project, as it is in the store.
        embeddings: The encoder of each project, loaded once the labeling config is known to fit it.
        now: Seconds since 1970.
        switches: Read the rows of the encoder that the project is being switched to.

    Returns:
        The input; None while no crop is embedded.

    Raises:
        LabelConfigError: Nothing in its labeling config classifies what the encoder reads.
    """
    project_id = project.id
    control = label_config.parse(project.label_config)
    name = (project.next_encoder if switches else None) or embeddings.name(project)
    check_encoder(control, name)
    encoder = embeddings.named(name)
    file = embeddings.file_of(project.id, encoder)
    source = store.rows_with(encoder.signature) if switches else store
    until = source.embedded_until(project_id, len(file))  # first: rows added meanwhile count as new
    embedded, rows = source.embedding_rows(project_id)
    if not len(embedded):
        return None
    latest = store.latest_round(project_id)
    annotations = store.annotations(project_id)
    pool = file.read()
    classifier = make_classifier(control, encoder)
    crops = CropRows(embedded, rows, len(pool))
    held = _held(store, project_id, latest, annotations, now)
    waiting = store.asked_next(project_id)
    row_of = crops.row_of({*(one.task_id for one in annotations), *project.check_tasks, *waiting, *held})
    counted = counted_annotations(annotations, control.classes)
    votes = weigh_disagreements(counted, row_of, pool, classifier)
    return RoundInput(
        project=project,
        signature=encoder.signature,
        switches=switches,
        control=control,
        latest=latest,
        file=file,
        embedded_until=until,
        pool=pool,
        task_at=crops.task_at,
        row_of=row_of,
        classifier=classifier,
        annotations=annotations,
        counted=counted,
        votes=votes,
        labels=resolve_labels(annotations, control.classes, votes.resolved),
        held=held,
        waiting=waiting,
    )


def _held(
    store: Store, project_id: int, latest: RoundRecord | None, annotations: list[Annotation], now: float
) -> set[int]:
    """Return the tasks that somebody seems to have open."""
    return held_crops(
        [] if latest is None else store.rounds(project_id, after=latest.number - ROUNDS), annotations, now
    )
