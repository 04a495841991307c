"""The crops of a data set, each with its label, who or what said so, and the part of the data set it belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.acceptance_mark import AcceptanceMark, is_accepted, read_mark
from everylabel.backend.label_studio.annotators import annotator_name, names_by_id
from everylabel.backend.label_studio.file_names import file_name
from everylabel.backend.rounds import bulk_accept
from everylabel.backend.rounds.labelled_in import labelled_in
from everylabel.backend.rounds.labels import counted_annotations, current_labels, votes_by_task
from everylabel.backend.rounds.parts import RoundParts
from everylabel.backend.rounds.pool_predictions import predict_pool
from everylabel.backend.store import round_snapshot

if TYPE_CHECKING:
    from everylabel.backend.label_studio.client import LabelStudio
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.progress import Progress
    from everylabel.backend.store import Annotation, Project
    from everylabel.backend.store.files import ProjectFiles

PERSON, CERTIFICATE, ACCEPTED, PSEUDO_LABEL = "person", "certificate", "accepted", "pseudo-label"
"""Who or what said a label."""
TRAIN, TEST = "train", "test"
LEVELS = ("people", "certified", "accepted", "all")
"""Which labels are taken, each level with those before it: people's, those a certificate covers, accepted ones, all."""
WHOLE_FROM = 0.25
"""The share of a project's tasks from which on all of them are listed: one by one costs Label Studio four times as much."""


class Parts(RoundParts, Protocol):
    """The parts of a backend that reading a data set uses."""

    @property
    def files(self) -> Callable[[int], ProjectFiles]:
        """A project's files."""


class NothingLabelledError(RuntimeError):
    """There is no label to export; the message says what to do."""


@dataclass(frozen=True)
class LabelledCrop:
    """A crop and its label."""

    task_id: int
    label: str
    source: str
    """Who or what said so: `PERSON`, `CERTIFICATE`, `ACCEPTED` or `PSEUDO_LABEL`."""
    split: str = TRAIN
    """`TEST` for a blind check crop that a person has labelled."""
    certificate: int | None = None
    """The certificate that covers an accepted label."""
    round: int | None = None
    """The round whose queue a person labelled it from, or whose model said the label; None where it is not known."""
    predicted: str | None = None
    """The class that the model in use predicts, which has learned from people's labels."""
    confidence: float | None = None
    """How confident it is of that, 0 to 1; of an accepted label, how confident it was when that was accepted."""
    annotators: tuple[str, ...] = ()
    agreement: float | None = None
    """The share of annotators who chose the label, 0 to 1; None of a label that is the machine's."""
    suspected: bool = False
    """True if it is one of the suspected label issues."""
    file_name: str = ""
    """The person's own file, or an empty text."""
    url: str | None = None
    """The crop's address as in the store."""
    text: str | None = None
    """The crop itself if it is a text."""
    problem: str | None = None
    """The reason why it cannot be read."""


def digest(crops: Iterable[LabelledCrop]) -> str:
    """Return a name for these labels: the same tasks with the same labels and the same test set have the same, 16 digits."""
    said = sorted((crop.task_id, crop.label, crop.split) for crop in crops)
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def read_crops(
    parts: Parts, project_id: int, level: str, progress: Progress | None = None, *, names: bool = False
) -> list[LabelledCrop]:
    """Read the labelled crops of a project, by task.

    The test set is the blind check crops that people have labelled, whatever else is in the data set.

    Args:
        parts: The backend, whose store is up to date.
        project_id: The project.
        level: One of `LEVELS`: which labels are taken.
        progress: Called with (what, done, total).
        names: Name annotators as Label Studio does, which may be by their e-mail address; otherwise by number.

    Raises:
        NothingLabelledError: No label is left to export.
        LabelConfigError: Nothing in the labeling config is learned.
        LabelStudioError: Label Studio does not answer, or refuses.
    """
    project = parts.store.project(project_id)
    if project is None:
        raise NothingLabelledError(
            f"Project {project_id} is not connected: everylabel connect --project {project_id}"
        )
    control = label_config.parse(project.label_config)
    crops = _of_people(parts, project, control, names_by_id(parts.store) if names else {})
    if level != LEVELS[0]:
        crops += _accepted(
            parts, project, control, {crop.task_id for crop in crops}, certified=level == LEVELS[1]
        )
    if level == LEVELS[3]:
        crops += _pseudo_labels(parts, project, {crop.task_id for crop in crops})
    if not crops:
        raise NothingLabelledError(
            f"Project {project_id} has no label to export{'' if level == LEVELS[3] else f' (--labels {level})'}. Label some "
            "crops first, with Label All Tasks."
        )
    crops.sort(key=lambda crop: crop.task_id)
    return list(_described(parts, project_id, control, crops, progress))


def _of_people(
    parts: Parts, project: Project, control: ImageChoices, names: Mapping[int, str]
) -> list[LabelledCrop]:
    """Return the crops that people have labelled."""
    store = parts.store
    annotations = store.annotations(project.id)
    labels = current_labels(store, project.id, annotations, control.classes)
    counted = counted_annotations(annotations, control.classes)
    votes = votes_by_task(counted)
    rounds = labelled_in(counted, store.rounds(project.id))
    snapshot = round_snapshot.load(parts.files(project.id).folder)
    suspected = {} if snapshot is None else {issue.task_id: issue.given for issue in snapshot.suspected}
    model, check_tasks = parts.models.of(project.id), {*project.check_tasks}
    predicted = None if model is None else predict_pool(store, parts.embeddings, project, model)
    crops = []
    for task_id, label in labels.items():
        name, confidence = (predicted and predicted.of(task_id)) or (None, None)
        given = votes[task_id]
        crops.append(
            LabelledCrop(
                task_id,
                label,
                PERSON,
                split=TEST if task_id in check_tasks else TRAIN,
                round=rounds.get(task_id),
                predicted=name,
                confidence=confidence,
                annotators=tuple(annotator_name(_id(who), names) for who in given),
                agreement=sum(said == label for said in given.values()) / len(given),
                suspected=suspected.get(task_id) == label,
            )
        )
    return crops


def _accepted(
    parts: Parts, project: Project, control: ImageChoices, labelled: Collection[int], *, certified: bool
) -> list[LabelledCrop]:
    """Return the crops whose label was accepted in bulk; those that a certificate covers alone if `certified`."""
    if certified and not parts.store.certificates(project.id):
        return []
    closed = {*labelled, *project.check_tasks}
    said = {
        found.task_id: found
        for found in parts.store.annotations(project.id)
        if found.accepted
        and found.choice is not None
        and control.knows(found.choice)
        and found.task_id not in closed
    }
    marks = _marks(parts.label_studio, project.id, said)
    return [
        LabelledCrop(
            task_id,
            str(said[task_id].choice),
            ACCEPTED if mark.certificate is None else CERTIFICATE,
            certificate=mark.certificate,
            round=mark.round,
            predicted=said[task_id].choice,
            confidence=mark.confidence,
        )
        for task_id, mark in marks.items()
        if mark.certificate is not None or not certified
    ]


def _marks(
    label_studio: LabelStudio, project_id: int, said: Mapping[int, Annotation]
) -> dict[int, AcceptanceMark]:
    """Read what Label Studio's marks say of accepted annotations, by task."""
    found = {}
    for task in label_studio.tasks_among(project_id, sorted(said)):
        for annotation in task.get("annotations") or []:
            mark = read_mark(annotation.get("result"))
            if mark is not None and is_accepted(annotation):
                found[int(task["id"])] = mark
    return found


def _pseudo_labels(parts: Parts, project: Project, labelled: Collection[int]) -> list[LabelledCrop]:
    """Return the crops that nobody has labelled and of which the model in use is confident enough to be shown."""
    latest = parts.store.latest_round(project.id)
    if latest is None or parts.models.of(project.id) is None:
        return []
    crops, _ = bulk_accept.acceptable(parts, project.id, latest.threshold, latest.embedded_until)
    return [
        LabelledCrop(
            crop.task_id,
            crop.label,
            PSEUDO_LABEL,
            round=project.model_round,
            predicted=crop.label,
            confidence=crop.confidence,
        )
        for crop in crops
        if crop.task_id not in labelled
    ]


def _described(
    parts: Parts,
    project_id: int,
    control: ImageChoices,
    crops: Sequence[LabelledCrop],
    progress: Progress | None,
) -> Iterator[LabelledCrop]:
    """Yield the crops with their address, their file's name or their text, and why one cannot be read."""
    ids = [crop.task_id for crop in crops]
    stored = {task.id: task for task in parts.store.tasks(project_id, ids)}
    data_of = dict(_data(parts, project_id, ids, progress))
    for crop in crops:
        task, data = stored.get(crop.task_id), data_of.get(crop.task_id)
        if task is None or data is None:
            yield replace(crop, problem="The task is gone from Label Studio.")
            continue
        text = data.get(control.image_key) if control.kind == "text" else None
        yield replace(
            crop,
            file_name=file_name(data, None if control.kind == "text" else task.image_url),
            url=task.image_url,
            text=text if isinstance(text, str) else None,
            problem=task.problem,
        )


def _data(
    parts: Parts, project_id: int, ids: Sequence[int], progress: Progress | None
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Read the data of tasks, which the store does not hold."""
    wanted, total = {*ids}, parts.store.number_of_tasks(project_id)
    every = len(ids) >= WHOLE_FROM * total

    def report(done: int, left: int) -> None:
        if progress is not None:
            progress("Reading file names", done, left)

    source = (
        parts.label_studio.tasks(project_id, progress=report)
        if every
        else parts.label_studio.tasks_among(project_id, ids)
    )
    for task in source:
        if int(task["id"]) in wanted and isinstance(task.get("data"), Mapping):
            yield int(task["id"]), task["data"]


def _id(annotator: str) -> int | None:
    return int(annotator) if annotator.isdecimal() else None
