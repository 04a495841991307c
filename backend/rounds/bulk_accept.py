"""Accept confident pre-annotations as annotations in bulk, marked as such, and undo it.

An accepted annotation is a machine's label that a person approved without seeing the crop. The mark is
in Label Studio itself, where Label Studio 1.23.2 keeps it and a person sees it: `origin` and a `meta` text in
the result, and a prediction of the version `accepted, round 3` beside it. It never counts as a person's label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.acceptance_mark import (
    accepted_version,
    is_accepted,
    is_accepted_version,
    marked,
    marked_versions,
)
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.publisher import tabs_by_title
from everylabel.backend.rounds import earlier_model
from everylabel.backend.rounds.labels import current_labels
from everylabel.backend.rounds.parts import RoundParts
from everylabel.backend.rounds.pool_predictions import predict_pool
from everylabel.backend.rounds.rare_classes import rare_classes

if TYPE_CHECKING:
    from everylabel.backend.label_studio.client import LabelStudio
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.progress import Progress
    from everylabel.backend.store.files import ProjectFiles

ACCEPTED = "Bulk-accepted"
"""The tab that shows them."""
_FORMER = "Accepted in bulk"
"""The former title of that tab: Label Studio cut it off."""
CHUNK = 200
"""How many annotations one request writes: about two seconds for Label Studio on SQLite, in which no round runs."""
DELETED_AT_ONCE = 20
"""How many annotations are deleted before the next round may run: about three seconds for Label Studio."""


class _Parts(RoundParts, Protocol):
    """The parts of a backend that accepting and undoing use."""

    @property
    def files(self) -> Callable[[int], ProjectFiles]: ...


class NothingLearnedError(RuntimeError):
    """Raised if there is no model whose pre-annotations could be accepted; the message says what to do."""


@dataclass(frozen=True)
class Acceptable:
    """An unlabelled crop whose prediction is confident enough to be accepted."""

    task_id: int
    label: str
    confidence: float
    url: str | None = None
    """The address of the crop, as in the store."""


@dataclass(frozen=True)
class Accepted:
    """The result of accepting."""

    version: str
    """The model version that Label Studio shows them under."""
    crops: tuple[Acceptable, ...]


@dataclass(frozen=True)
class Undone:
    """The result of undoing."""

    taken_back: int
    kept: int
    """How many somebody has edited since: those are a person's now."""


def acceptable(
    parts: _Parts, project_id: int, min_confidence: float, at_most: int
) -> tuple[list[Acceptable], int]:
    """List the crops whose predictions are confident enough to be accepted, the most confident first.

    Left out are annotated crops, blind check crops, suspected labels and crops that a person is being asked about; and
    every crop predicted as a class with a single label or none, or with less than ten where an earlier model has a say, because
    too little in this project has checked such predictions.

    Args:
        parts: The backend.
        project_id: The project.
        min_confidence: The lowest confidence to accept, 0 to 1.
        at_most: The longest list to return.

    Returns:
        The crops, and how many more there are.

    Raises:
        NothingLearnedError: The project has no model yet.
    """
    store = parts.store
    project, model = store.project(project_id), parts.models.of(project_id)
    latest = store.latest_round(project_id)
    if project is None or model is None or latest is None:
        raise NothingLearnedError(
            f"Project {project_id} has no model yet. Label crops of two classes, with `everylabel serve` running "
            f"and the project connected (everylabel connect --project {project_id})."
        )
    control = label_config.parse(project.label_config)
    labels = current_labels(store, project_id, store.annotations(project_id), control.classes)
    rare = rare_classes(labels, control.classes, control.names, project.check_tasks)
    unchecked = {*latest.single_classes, *rare.single, *rare.missing}
    unchecked |= earlier_model.unchecked_classes(earlier_model.in_use(store, project), labels, control)
    predicted = predict_pool(store, parts.embeddings, project, model).confident(
        min_confidence, control, unchecked
    )
    closed = np.fromiter(_closed(parts, project_id), dtype=np.int64)
    enough = np.flatnonzero(~np.isin(predicted.tasks, closed))
    most_confident = enough[np.argsort(-predicted.confidence[enough], kind="stable")][:at_most]
    url_of = {
        task.id: task.image_url for task in store.tasks(project_id, predicted.tasks[most_confident].tolist())
    }
    crops = [
        Acceptable(task_id, predicted.classes[code], confidence, url_of.get(task_id))
        for task_id, code, confidence in zip(
            predicted.tasks[most_confident].tolist(),
            predicted.best[most_confident].tolist(),
            predicted.confidence[most_confident].tolist(),
            strict=True,
        )
    ]
    return crops, len(enough) - len(crops)


def accept(
    parts: _Parts,
    project_id: int,
    crops: Sequence[Acceptable],
    progress: Progress | None = None,
    *,
    version: str | None = None,
) -> Accepted:
    """Write annotations for these crops, 200 at a time, and let rounds that are due run in between.

    A crop that a person has annotated meanwhile, or is being asked about now, is left to them. If this is interrupted,
    the next run goes on with the rest: a crop with an annotation is not acceptable any more, and one with only its
    prediction gets no second one: that prediction is used, or replaced if a newer model has answered since.

    Args:
        parts: The backend.
        project_id: The project.
        crops: The crops, as `acceptable` returns them.
        progress: Called with (what, done, total).
        version: The model version that Label Studio shows them under; that of the model's round if None.

    Returns:
        The crops that were accepted.

    Raises:
        NothingLearnedError: The project has no model yet.
        LabelStudioError: Label Studio did not accept a chunk; the chunks before it are written.
    """
    project = parts.store.project(project_id)
    if project is None or project.model_round is None:
        raise NothingLearnedError(f"Project {project_id} has no model yet.")
    control = label_config.parse(project.label_config)
    label_studio, version = parts.label_studio, version or accepted_version(project.model_round)
    left = _left_behind(label_studio, project_id)
    accepted: list[Acceptable] = []
    for start in range(0, len(crops), CHUNK):
        chunk = crops[start : start + CHUNK]
        with _between_rounds(parts, project_id):
            closed = _closed(parts, project_id)
            closed |= label_studio.annotated(project_id, [crop.task_id for crop in chunk])
            still = [crop for crop in chunk if crop.task_id not in closed]
            ready = {crop.task_id for crop in still if _keep_one(label_studio, left, crop.task_id, version)}
            new = [crop for crop in still if crop.task_id not in ready]
            if new:
                written = [_prediction(crop, control, version) for crop in new]
                label_studio.import_predictions(project_id, written)
            if still:
                label_studio.create_annotations(project_id, [crop.task_id for crop in still], version)
        accepted += still
        if progress is not None:
            progress("Accepting", start + len(chunk), len(crops))
    return Accepted(version, tuple(accepted))


def undo(
    parts: _Parts,
    project_id: int,
    *,
    version: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Undone:
    """Delete every accepted annotation that nobody has edited since, one by one, each checked just before.

    A round runs after every 20 of them, not after each. Their predictions are deleted too; beside an annotation that
    somebody has edited since, the prediction stays.

    Args:
        parts: The backend.
        project_id: The project.
        version: Delete only those that were accepted under this model version; all if None.
        dry_run: Count the annotations, and delete none.
        progress: Called with (what, done, total).

    Returns:
        How many were deleted, or would be, and how many are kept.

    Raises:
        LabelStudioError: Label Studio failed half-way; the next run goes on with the rest.
    """
    label_studio = parts.label_studio
    held = [
        (int(annotation["id"]), annotation)
        for task in label_studio.tasks(project_id, annotated=True)
        for annotation in task.get("annotations") or []
        if (marks := marked_versions(annotation.get("result"))) and (version is None or version in marks)
    ]
    if dry_run:
        untouched = sum(is_accepted(annotation) for _, annotation in held)
        return Undone(untouched, len(held) - untouched)
    taken_back, kept_versions, kept = 0, set[str](), 0
    for start in range(0, len(held), DELETED_AT_ONCE):
        with _between_rounds(parts, project_id):
            for done, (id_, annotation) in enumerate(held[start : start + DELETED_AT_ONCE], start + 1):
                now = label_studio.annotation(id_) if is_accepted(annotation) else annotation
                if now is not None and is_accepted(now):
                    label_studio.delete_annotation(id_)
                    taken_back += 1
                elif now is not None:
                    kept += 1
                    kept_versions |= marked_versions(now.get("result"))
                if progress is not None:
                    progress("Taking back", done, len(held))
    for name in label_studio.model_versions(project_id):
        if is_accepted_version(name) and name not in kept_versions and version in (None, name):
            label_studio.delete_predictions(project_id, name)
    if kept:
        with _between_rounds(parts, project_id):  # `accept` writes a prediction just before its annotation
            for found in _left_behind(label_studio, project_id).values():
                for id_, name in found.items():
                    if version in (None, name):
                        label_studio.delete_prediction(id_)
    return Undone(taken_back, kept)


def save_tab(label_studio: LabelStudio, project_id: int) -> None:
    """Create the tab of accepted annotations; those that are undone or edited leave it by themselves."""
    tabs = tabs_by_title(label_studio, project_id)
    if ACCEPTED in tabs:
        return
    if (former := tabs.get(_FORMER)) is not None:
        label_studio.save_tab(int(former["id"]), project_id, {**former["data"], "title": ACCEPTED})
        return
    column = "filter:tasks:annotations_results"
    items = [
        {"filter": column, "operator": "contains", "type": "String", "value": "in bulk by everylabel"},
        {"filter": column, "operator": "not_contains", "type": "String", "value": "prediction-changed"},
    ]
    data = {"title": ACCEPTED, "type": "grid", "gridWidth": 5}
    label_studio.save_tab(None, project_id, data | {"filters": {"conjunction": "and", "items": items}})


def _left_behind(label_studio: LabelStudio, project_id: int) -> dict[int, dict[int, str]]:
    """Return the predictions that an interrupted run left without an annotation: id and version, by task."""
    left: dict[int, dict[int, str]] = {}
    for version in filter(is_accepted_version, label_studio.model_versions(project_id)):
        for task in label_studio.predicted_tasks(project_id, version, unlabelled=True):
            for prediction in task["predictions"]:
                if prediction["model_version"] == version:
                    left.setdefault(int(task["id"]), {})[int(prediction["id"])] = version
    return left


def _keep_one(label_studio: LabelStudio, left: dict[int, dict[int, str]], task_id: int, version: str) -> bool:
    """Delete what was left behind on a task but for one prediction of this version; return whether there is one."""
    found = left.get(task_id, {})
    kept = next((id_ for id_, name in found.items() if name == version), None)
    for id_ in found.keys() - {kept}:
        label_studio.delete_prediction(id_)
    return kept is not None


@contextmanager
def _between_rounds(parts: _Parts, project_id: int) -> Iterator[None]:
    """Keep rounds from running during one chunk, after a round for the webhooks since the last chunk."""
    # The round runs here: the trainer tries the lock so rarely that releasing it for a moment would not do.
    if parts.store.events(project_id):
        parts.loop.catch_up(project_id)
    with parts.files(project_id).lock():
        yield


def _closed(parts: _Parts, project_id: int) -> set[int]:
    """Return the tasks that have an annotation, are blind checks or suspected labels, or are in the queue."""
    project, latest = parts.store.project(project_id), parts.store.latest_round(project_id)
    closed = parts.store.annotated_tasks(project_id)
    if project is not None:
        closed |= {*project.check_tasks}
    if latest is not None:
        closed |= {*latest.queue, *latest.suspected}
    return closed


def _prediction(crop: Acceptable, control: ImageChoices, version: str) -> dict[str, Any]:
    regions = [
        marked(region, version, crop.confidence)
        for region in control.result(crop.label, crop.confidence, crop.url)
    ]
    return {
        "task": crop.task_id,
        "result": regions,
        "score": round(crop.confidence, 6),
        "model_version": version,
    }
