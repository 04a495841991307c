"""Read the input of a round from the store, as it is at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.embedding.embeddings import check_encoder
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.label_config import ImageChoices, LabelConfigError
from everylabel.backend.rounds.empty_annotations import former_labels
from everylabel.backend.rounds.labels import (
    closed_tasks,
    counted_annotations,
    resolve_labels,
    weigh_disagreements,
)
from everylabel.backend.rounds.models import make_classifier
from everylabel.backend.store import Annotation, Project, ResolvedDisagreement, RoundRecord, Store
from everylabel.backend.store.task_rows import CropRows

if TYPE_CHECKING:
    from everylabel.backend.store.files import EmbeddingFile, ProjectFiles
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.encoders import Encoder
    from everylabel.model.session import ActiveLearningSession


@dataclass(frozen=True)
class RoundInput:
    """The input of a round."""

    project: Project
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
    resolved: dict[int, ResolvedDisagreement]
    """The decisions of CROWDLAB on tasks whose annotators disagree."""
    labels: dict[int, str]
    """The label of each task that has one."""

    def fill(self, session: ActiveLearningSession) -> None:
        """Give a session the labels, the check crops, and the rows that nobody is asked about."""
        session.exclude(np.flatnonzero(self.task_at == 0))
        session.exclude(self._rows(closed_tasks(self.annotations, self.labels)))
        labeled = [
            (self.row_of[id_], label) for id_, label in sorted(self.labels.items()) if id_ in self.row_of
        ]
        session.add_labels([row for row, _ in labeled], [label for _, label in labeled])
        session.set_check_crops(self._rows(self.project.check_tasks))

    def emptied(self) -> dict[int, str]:
        """Return the label that each row had before its annotation became empty."""
        former = former_labels(self.annotations, self.labels, self.control)
        return {self.row_of[id_]: label for id_, label in former.items() if id_ in self.row_of}

    def _rows(self, task_ids: Iterable[int]) -> list[int]:
        return [self.row_of[id_] for id_ in task_ids if id_ in self.row_of]


def read_input(
    store: Store,
    files: ProjectFiles,
    project_id: int,
    encoder_name: str,
    get_encoder: Callable[[], Encoder],
) -> RoundInput | None:
    """Read the input of a round.

    Args:
        store: Holds the project, its crops and its annotations.
        files: The project's files.
        project_id: The project.
        encoder_name: The encoder that the settings name.
        get_encoder: Returns that encoder; called once the labeling config is known to fit it.

    Returns:
        The input; None while no crop is embedded.

    Raises:
        LabelConfigError: The project is not connected, nothing in its labeling config classifies an image or a text,
            or the encoder cannot read what it shows.
    """
    project = store.project(project_id)
    if project is None:
        raise LabelConfigError(
            f"Project {project_id} is not connected. Run: everylabel connect --project {project_id}"
        )
    control = label_config.parse(project.label_config)
    check_encoder(control, encoder_name)
    encoder = get_encoder()
    file = files.embeddings(encoder.signature, encoder.dim, encoder.dtype)
    until = store.embedded_until(project_id, len(file))  # first: rows added meanwhile count as new
    embedded, rows = store.embedding_rows(project_id)
    if not len(embedded):
        return None
    latest = store.latest_round(project_id)
    annotations = store.annotations(project_id)
    pool = file.read()
    classifier = make_classifier(control, encoder)
    crops = CropRows(embedded, rows, len(pool))
    row_of = crops.row_of({annotation.task_id for annotation in annotations} | {*project.check_tasks})
    counted = counted_annotations(annotations, control.classes)
    resolved = weigh_disagreements(counted, row_of, pool, classifier)
    return RoundInput(
        project=project,
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
        resolved=resolved,
        labels=resolve_labels(annotations, control.classes, resolved),
    )
