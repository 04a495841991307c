"""Writes a round into Label Studio: the queue, pre-annotations, flags and tabs, in a handful of calls.

What the label stream serves is decided by two fields of the project: with `sampling = "Uncertainty sampling"`
Label Studio 1.23.2 serves the unlabelled tasks that have a prediction whose `model_version` equals the
project's, in ascending `score`. So a round's predictions are written under a fresh version, and only then the
project is pointed at it: an annotator sees the old queue or the new one, never half of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.label_config import ImageChoices
from backend.label_studio import LabelStudio

SAMPLING = "Uncertainty sampling"
VERSION = re.compile(r"^round (\d+)$")
NEXT_BATCH = "Next batch"
PRE_ANNOTATED = "Pseudo-labels to check"
FLAGGED = "Possible label errors"
PLAIN_TAB = "Default"
STEP = 1e-6
"""Smallest distance between two scores: keeps the queue's order strict where confidences are equal."""


@dataclass(frozen=True)
class QueuedCrop:
    """One task of a round as it is written into Label Studio.

    `label` is None for a crop to be shown with nothing pre-filled.
    """

    task_id: int
    label: str | None
    confidence: float


@dataclass(frozen=True)
class Queue:
    """What a round puts into Label Studio, each part in the order it is to be served."""

    model_version: str
    check: Sequence[QueuedCrop]
    batch: Sequence[QueuedCrop]
    pre_annotated: Sequence[QueuedCrop]
    flagged: Sequence[QueuedCrop]
    """Labelled tasks whose label looks wrong, with the label suggested instead; most suspicious first."""


def version_name(number: int) -> str:
    """The name annotators see beside a score: `round 3`."""
    return f"round {number}"


def version_number(name: str) -> int | None:
    """The number of a version of ours; None for any other."""
    match = VERSION.match(name)
    return int(match.group(1)) if match else None


def predictions(queue: Queue, control: ImageChoices) -> list[dict[str, Any]]:
    """A round as Label Studio predictions, their scores rising in the order the tasks are to be served.

    Blind check crops come first (empty result, score 0), then the batch by rising confidence, then the
    confident crops. Flagged tasks are labelled already and not served.
    """
    written, floor = [], 0.0
    for i, crop in enumerate(queue.check):
        floor = i * STEP
        written.append(_prediction(queue, control, crop.task_id, None, floor))
    for crop in (*queue.batch, *queue.pre_annotated):
        # Rounded here: of two that are a step apart, rounding afterwards may make one.
        floor = round(max(floor + STEP, crop.confidence), 6)
        written.append(_prediction(queue, control, crop.task_id, crop.label, floor))
    written.extend(_prediction(queue, control, c.task_id, c.label, c.confidence) for c in queue.flagged)
    return written


class Publisher:
    """Writes rounds into Label Studio."""

    def __init__(self, label_studio: LabelStudio) -> None:
        self._label_studio = label_studio

    def publish(self, project_id: int, queue: Queue, control: ImageChoices) -> None:
        """Make `queue` what *Label All Tasks* serves: one bulk write, then one switch.

        Raises:
            LabelStudioError: Label Studio did not take it; the old queue is still served.
        """
        written = predictions(queue, control)
        if not written:
            return
        self._label_studio.import_predictions(project_id, written)
        self._label_studio.update_project(
            project_id, model_version=queue.model_version, sampling=SAMPLING, show_collab_predictions=True
        )

    def save_tabs(self, project_id: int, queue: Queue) -> None:
        """Create or refresh the tabs that show the round's parts, beside the plain one."""
        tabs = {str(tab.get("data", {}).get("title")): tab for tab in self._label_studio.tabs(project_id)}
        if not tabs:
            # Without a plain tab the first filtered one is the only one, and the label stream ends early.
            self._label_studio.save_tab(None, project_id, {"title": PLAIN_TAB, "type": "list"})
        for title, part, ordering in (
            (NEXT_BATCH, (*queue.check, *queue.batch), "tasks:predictions_score"),
            (PRE_ANNOTATED, queue.pre_annotated, "-tasks:predictions_score"),
            (FLAGGED, queue.flagged, "-tasks:predictions_score"),
        ):
            data = _tab(title, [crop.task_id for crop in part], ordering)
            known = tabs.get(title)
            if known is None or _shown(known) != _shown({"data": data}):
                merged = data if known is None else {**known["data"], "filters": data["filters"]}
                self._label_studio.save_tab(None if known is None else int(known["id"]), project_id, merged)

    def clean_up(self, project_id: int, keep: Sequence[str], at_most: int = 2) -> int:
        """Delete the predictions of our oldest versions that are not kept; returns how many versions went."""
        versions = self._label_studio.model_versions(project_id)
        ours = sorted((number, name) for name in versions if (number := version_number(name)) is not None)
        old = [name for _, name in ours if name not in keep][:at_most]
        for name in old:
            self._label_studio.delete_predictions(project_id, name)
        return len(old)


def _prediction(
    queue: Queue, control: ImageChoices, task_id: int, label: str | None, score: float
) -> dict[str, Any]:
    return {
        "task": task_id,
        "result": [] if label is None else control.result(label),
        "score": round(score, 6),
        "model_version": queue.model_version,
    }


def _tab(title: str, task_ids: Sequence[int], ordering: str) -> dict[str, Any]:
    return {
        "title": title,
        "type": "grid",
        "gridWidth": 5,
        "ordering": [ordering],
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


def _shown(tab: Mapping[str, Any]) -> set[int]:
    """Which tasks a tab of ours shows."""
    items = (tab.get("data", {}).get("filters") or {}).get("items") or []
    return {int(item["value"]) for item in items if str(item.get("value", "")).isdigit()}
