"""Write a round into Label Studio: the queue, pre-annotations, suspected label issues and tabs, in a few calls.

Two fields of the project decide what the label stream serves: with `sampling = "Uncertainty sampling"` Label Studio
1.23.2 serves the unlabelled tasks that have a prediction whose `model_version` equals the project's, in ascending
`score`. So a round's predictions are written under a fresh version, and only then is the project pointed at it: an
annotator sees the old queue or the new one, never half of one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from itertools import accumulate
from typing import Any

from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.label_config import ImageChoices
from everylabel.backend.label_studio.overlap import not_asked, serve_second_labels

SAMPLING = "Uncertainty sampling"
VERSION = re.compile(r"^round (\d+)$")
SPOT_CHECK = "Spot check"
NEXT_BATCH = "Next batch"
PRE_ANNOTATED = "Pseudo-labels"
SUSPECTS = "Suspect labels"
FORMER_TITLES = {
    PRE_ANNOTATED: ("Pseudo-labels to check",),
    SUSPECTS: ("Suspected labels", "Possible label errors"),
}
"""What these tabs were called before: Label Studio cuts the title of an open tab off after some 15 letters."""
PLAIN_TAB = "Default"
_PLAIN = (
    "id",
    "completed_at",
    "total_annotations",
    "cancelled_annotations",
    "total_predictions",
    "annotators",
)
"""What the plain tab shows where it is ours, as where it is Label Studio's: with more the crop is out of sight."""
_COLUMNS = (
    "id", "inner_id", "completed_at", "total_annotations", "cancelled_annotations", "total_predictions",
    "annotators", "annotations_results", "annotations_ids", "predictions_score", "predictions_model_versions",
    "predictions_results", "file_upload", "storage_filename", "created_at", "updated_at", "updated_by",
    "avg_lead_time", "draft_exists",
)  # fmt: skip
"""Label Studio's own columns; the crop itself is a column of the task's data, and always shown."""
_SHOWN = {
    SPOT_CHECK: ("id", "predictions_score"),
    NEXT_BATCH: ("id", "predictions_score"),
    PRE_ANNOTATED: ("id", "predictions_score", "predictions_results"),
    SUSPECTS: ("id", "annotators", "annotations_results", "predictions_results", "predictions_score"),
}
"""What a tab shows beside the crop in a list; Label Studio's grid shows the score alone, and no class."""
LISTS = (PRE_ANNOTATED, SUSPECTS)
"""Tabs that need to show classes. In a grid a click on a picture enlarges it, and no form opens; in a list it opens one."""
GRID_WIDTH = 5
"""Crops in a row of a grid of ours."""
LIST_GRID_WIDTH = 4
"""The same, Label Studio's own, where somebody makes a grid of a list of ours."""
PILE = 8
"""So many versions of rounds in Label Studio are a pile, which annotated crops are freed of."""
STEP = 1e-6
"""Smallest distance between two scores: keeps the queue's order strict where confidences are equal."""


@dataclass(frozen=True)
class QueuedCrop:
    """One task of a round as it is written into Label Studio.

    `label` is None for a crop to be shown with nothing pre-filled; `url` is the crop's address.
    """

    task_id: int
    label: str | None
    confidence: float
    url: str | None = None


@dataclass(frozen=True)
class Queue:
    """The tasks that a round writes into Label Studio, each part in the order it is to be served."""

    model_version: str
    check: Sequence[QueuedCrop]
    batch: Sequence[QueuedCrop]
    pre_annotated: Sequence[QueuedCrop]
    suspected: Sequence[QueuedCrop]
    """Labelled tasks whose label looks wrong, with the label suggested instead; most suspicious first."""
    emptied: Sequence[QueuedCrop] = ()
    """Tasks whose label became empty by an update, with the label they had."""
    spot_check: Sequence[QueuedCrop] = ()
    """Crops of the spot check of a certificate: served before all others, and blind."""
    asked: Sequence[QueuedCrop] = ()
    """Crops that somebody has asked for on the page: served before all others, with nothing pre-filled."""
    reserve: Sequence[QueuedCrop] = ()
    """Further tasks, served with nothing pre-filled once all others are labelled or held."""
    second_labels: Sequence[QueuedCrop] = ()
    """Labelled tasks that another person is asked about, without a prediction: what is pre-filled would lead them."""
    second_labels_over: Sequence[QueuedCrop] = ()
    """Tasks that earlier rounds asked another person about, and this one does not."""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Queue:
        """Restore a queue from the fields that `dataclasses.asdict` made."""
        fields = {"suspected": fields.get("flagged", ()), **fields}  # as earlier versions stored it
        keys = [part.name for part in dataclass_fields(cls) if part.name != "model_version"]
        parts = {key: [QueuedCrop(**crop) for crop in fields.get(key, ())] for key in keys}
        return cls(str(fields["model_version"]), **parts)


def version_name(number: int) -> str:
    """Return the name that annotators see beside a score: `round 3`."""
    return f"round {number}"


def version_number(name: str) -> int | None:
    """Return the number of a version of ours; None for any other."""
    match = VERSION.match(name)
    return int(match.group(1)) if match else None


def predictions(queue: Queue, control: ImageChoices) -> list[dict[str, Any]]:
    """Return a round as Label Studio predictions, their scores rising in the order the tasks are to be served.

    Crops that were asked for, those of a spot check and blind check crops come first (empty result, score 0), then the batch, the confident crops
    and the reserve (empty result). A score is the crop's confidence, or less where a crop of less confidence comes after
    it; those of the reserve lie behind. Tasks with a suspected or an emptied label
    are annotated already and not served.
    """
    written, floor = [], 0.0
    for i, crop in enumerate((*queue.asked, *queue.spot_check, *queue.check)):
        floor = i * STEP
        written.append(_prediction(queue, control, replace(crop, label=None), floor))
    served = [*queue.batch, *queue.pre_annotated]
    lowest = list(accumulate((crop.confidence for crop in reversed(served)), min))[::-1]
    for crop, confidence in zip(served, lowest, strict=True):
        # Rounded here: of two that are a step apart, rounding afterwards may make one.
        floor = round(max(floor + STEP, confidence), 6)
        written.append(_prediction(queue, control, crop, floor))
    for crop in queue.reserve:
        floor = round(floor + STEP, 6)
        written.append(_prediction(queue, control, replace(crop, label=None), floor))
    written.extend(_prediction(queue, control, c, c.confidence) for c in (*queue.suspected, *queue.emptied))
    return written


class Publisher:
    """A writer of rounds into Label Studio."""

    def __init__(self, label_studio: LabelStudio) -> None:
        self._label_studio = label_studio

    def publish(self, project_id: int, queue: Queue, control: ImageChoices, *, again: bool = False) -> None:
        """Make `queue` what *Label All Tasks* serves: one bulk write, then one switch.

        Args:
            project_id: the project.
            queue: what is to be served.
            control: what the labeling config asks.
            again: this was tried before, and perhaps the write went through.

        Raises:
            LabelStudioError: Label Studio did not take it; the old queue is still served.
        """
        written = predictions(queue, control)
        if not written:
            return
        if not (again and queue.model_version in self._label_studio.model_versions(project_id)):
            self._label_studio.import_predictions(project_id, written)
        self._label_studio.update_project(
            project_id, model_version=queue.model_version, sampling=SAMPLING, show_collab_predictions=True
        )

    def asked_of_nobody(self, project_id: int, task_ids: Sequence[int]) -> list[int]:
        """Return those of these labelled tasks that Label Studio serves to nobody again."""
        return not_asked(self._label_studio, project_id, task_ids) if task_ids else []

    def ask_for_second_labels(self, project_id: int, queue: Queue) -> None:
        """Have Label Studio ask for the second labels of a published round, and no longer for those of earlier ones.

        Raises:
            LabelStudioError: Label Studio does not answer, or refuses.
        """
        asked, over = queue.second_labels, queue.second_labels_over
        serve_second_labels(
            self._label_studio, project_id, [c.task_id for c in asked], [c.task_id for c in over]
        )

    def save_tabs(self, project_id: int, queue: Queue) -> None:
        """Create or refresh the tabs that show the round's parts, beside the plain one."""
        tabs = tabs_by_title(self._label_studio, project_id)
        for title, part, ordering in (
            (SPOT_CHECK, queue.spot_check, "tasks:predictions_score"),
            (NEXT_BATCH, (*queue.asked, *queue.check, *queue.batch), "tasks:predictions_score"),
            (PRE_ANNOTATED, queue.pre_annotated, "-tasks:predictions_score"),
            (SUSPECTS, (*queue.emptied, *queue.suspected), "-tasks:predictions_score"),
        ):
            data = _tab(title, [crop.task_id for crop in part], ordering)
            names = (title, *FORMER_TITLES.get(title, ()))
            known = next((tabs[name] for name in names if name in tabs), None)
            if title == SPOT_CHECK and known is None and not part:
                continue  # few projects ever have one
            own = {"title": title, "filters": data["filters"]}  # how a person has arranged the tab stays
            if known is not None and title in LISTS and _is_former_grid(known):
                own |= {key: data[key] for key in ("type", "gridWidth")}
            if (
                known is None
                or any(known["data"].get(key) != own[key] for key in own.keys() - {"filters"})
                or _shown(known) != _shown({"data": data})
            ):
                merged = data if known is None else {**known["data"], **own}
                self._label_studio.save_tab(None if known is None else int(known["id"]), project_id, merged)

    def clean_up(
        self, project_id: int, keep: Sequence[str], at_most: int = 2, *, after: int = 0, up_to: int
    ) -> int:
        """Delete the predictions of our oldest versions that are not kept; return how many versions went.

        Label Studio 1.23.2 serves crops in no order at all once the version it serves is deleted, and a round may be
        published while this runs. So nothing newer than what `keep` was chosen from is ever deleted.

        Args:
            project_id: the project.
            keep: versions that stay.
            at_most: how many go.
            after: rounds up to this number stay too.
            up_to: the newest round known when `keep` was chosen; later ones stay.
        """
        versions = self._label_studio.model_versions(project_id)
        ours = sorted((number, name) for name in versions if (number := version_number(name)) is not None)
        old = [name for number, name in ours if after < number <= up_to and name not in keep][:at_most]
        for name in old:
            self._label_studio.delete_predictions(project_id, name)
        return len(old)

    def clean_reserve(self, project_id: int, model_version: str, reserve: Collection[int]) -> None:
        """Delete a version's predictions of these tasks, its reserve; those of its queue stay, under their numbers."""
        for task in self._label_studio.predicted_tasks(project_id, model_version):
            if int(task["id"]) in reserve:
                for prediction in task["predictions"]:
                    if prediction.get("model_version") == model_version:
                        self._label_studio.delete_prediction(int(prediction["id"]))

    def clean_tasks(self, project_id: int, task_ids: Sequence[int]) -> bool:
        """Delete the predictions of annotated tasks that no round shows, where all of a task's are of rounds.

        Returns:
            Whether there were enough versions to make a pile; with fewer nothing is done.
        """
        ours = [
            name for name in self._label_studio.model_versions(project_id) if version_number(name) is not None
        ]
        if len(ours) < PILE:
            return False
        found = self._label_studio.tasks_among(project_id, task_ids)
        names = {
            int(task["id"]): [str(p.get("model_version")) for p in task["predictions"]] for task in found
        }
        piled = [
            id_
            for id_, held in names.items()
            if len(held) > 1 and all(version_number(name) is not None for name in held)
        ]
        if piled:
            self._label_studio.delete_task_predictions(project_id, piled)
        return True

    def keep_one_suggestion(self, project_id: int, task_ids: Sequence[int], model_version: str) -> None:
        """Leave annotated tasks no prediction but that of one version, where all of a task's are of rounds.

        Label Studio shows every prediction in a tab before the annotation, and in a list the oldest first. It deletes
        all predictions of a task at once, so the one that stays is written again.
        """
        again = []
        for task in self._label_studio.tasks_among(project_id, task_ids):
            held = {str(p.get("model_version")): p for p in task["predictions"]}
            if len(held) > 1 and model_version in held and all(map(version_number, held)):
                kept = {key: held[model_version].get(key) for key in ("result", "score", "model_version")}
                again.append({"task": int(task["id"]), **kept})
        if again:
            self._label_studio.delete_task_predictions(project_id, [one["task"] for one in again])
            self._label_studio.import_predictions(project_id, again)


def tabs_by_title(label_studio: LabelStudio, project_id: int) -> dict[str, dict[str, Any]]:
    """Return the project's tabs, after making a plain one if there is none: filtered ones are to stand beside it.

    Without a plain tab the first filtered one is the only one, and the label stream ends early.
    """
    tabs = {str(tab.get("data", {}).get("title")): tab for tab in label_studio.tabs(project_id)}
    if not tabs:
        hidden = {"explore": [f"tasks:{name}" for name in _COLUMNS if name not in _PLAIN]}
        plain = {
            "title": PLAIN_TAB,
            "type": "list",
            "hiddenColumns": {**hidden, "labeling": hidden["explore"]},
        }
        label_studio.save_tab(None, project_id, plain)
    return tabs


def _prediction(queue: Queue, control: ImageChoices, crop: QueuedCrop, score: float) -> dict[str, Any]:
    return {
        "task": crop.task_id,
        "result": control.result(crop.label, url=crop.url),
        "score": round(score, 6),
        "model_version": queue.model_version,
    }


def _tab(title: str, task_ids: Sequence[int], ordering: str) -> dict[str, Any]:
    return {
        "title": title,
        "type": "list" if title in LISTS else "grid",
        # A list has another width than the grids, so that a grid somebody makes of it is theirs.
        "gridWidth": LIST_GRID_WIDTH if title in LISTS else GRID_WIDTH,
        "ordering": [ordering],
        "hiddenColumns": {
            "explore": [f"tasks:{name}" for name in _COLUMNS if name not in _SHOWN[title]],
            "labeling": [f"tasks:{name}" for name in _COLUMNS if name not in ("id", "predictions_score")],
        },
        # One condition a task: Label Studio's page never finishes loading on the operator `in_list`, though
        # its API takes it. An empty part must match nothing, where no condition would match everything.
        "filters": {
            "conjunction": "or",
            "items": [
                {"filter": "filter:tasks:id", "operator": "equal", "type": "Number", "value": id_}
                for id_ in task_ids or [0]
            ],
        },
    }


def _is_former_grid(tab: Mapping[str, Any]) -> bool:
    """Return whether a tab that is a list now is the grid of an earlier version, which nobody has rearranged."""
    return (tab["data"].get("type"), tab["data"].get("gridWidth")) == ("grid", GRID_WIDTH)


def _shown(tab: Mapping[str, Any]) -> set[int]:
    """Return the tasks that a tab of ours shows."""
    items = (tab.get("data", {}).get("filters") or {}).get("items") or []
    return {int(item["value"]) for item in items if str(item.get("value", "")).isdigit()}
