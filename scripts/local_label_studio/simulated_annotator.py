"""A simulated annotator who knows every answer and labels through Label Studio's own API, as the label stream does."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from everylabel.backend.auth import webhook_headers
from everylabel.backend.bootstrap import Backend
from everylabel.backend.label_studio import label_config
from everylabel.backend.progress import Progress

NEW_QUEUE_SECONDS = 60.0
POLL_SECONDS = 0.05
MEASURE_EVERY = 5


class AnnotatorError(RuntimeError):
    """The backend does not answer an annotation; the message says what was seen."""


@dataclass
class Outcome:
    """The observations of a simulated annotator."""

    labels: int = 0
    model_versions: list[str] = field(default_factory=list)
    true_accuracy: list[dict[str, float]] = field(default_factory=list)
    check_set: dict[str, float] | None = None
    queue_followed: bool = True
    seconds_to_new_queue: list[float] = field(default_factory=list)
    label_issues: int = 0
    pre_annotations: int = 0

    def report(self) -> dict[str, Any]:
        """Return the JSON report; seconds are from an annotation's answer to the new queue in `/next`."""
        seconds = sorted(self.seconds_to_new_queue)
        return {
            "labels": self.labels,
            "rounds": len(self.model_versions),
            "model_versions": self.model_versions,
            "true_accuracy": self.true_accuracy,
            "check_set": self.check_set,
            "queue_followed": self.queue_followed,
            "seconds_to_new_queue": {
                "median": round(statistics.median(seconds), 3) if seconds else None,
                "p95": round(seconds[max(0, round(0.95 * len(seconds)) - 1)], 3) if seconds else None,
            },
            "label_issues": self.label_issues,
            "pre_annotations": self.pre_annotations,
        }


def annotate(
    backend: Backend, project_id: int, truth: Mapping[int, str], labels: int, progress: Progress
) -> Outcome:
    """Label one crop at a time, in the order Label Studio serves them, until the project has `labels` labels.

    Args:
        backend: Its settings and its client; the backend itself runs elsewhere.
        project_id: a connected project.
        truth: the class of every task.
        labels: how many labels the project has at the end.
        progress: called with (what, done, total).

    Raises:
        AnnotatorError: no new queue comes after an annotation.
    """
    label_studio = backend.label_studio
    control = label_config.parse(str(label_studio.project(project_id)["label_config"]))
    done = {int(t["id"]) for t in label_studio.tasks(project_id, annotated=True)}
    outcome = Outcome(labels=len(done))
    version = _version(backend, project_id)
    outcome.model_versions.append(version)
    while len(done) < labels:
        task = label_studio.next_task(project_id)
        if task is None:
            break
        task_id = int(task["id"])
        # The queue may have been renewed in between: the crop must head the one before or after.
        heads = {_head(backend, project_id, name, done) for name in {version, _version(backend, project_id)}}
        outcome.queue_followed &= task_id in heads
        label_studio.annotate(task_id, control.result(truth[task_id]), lead_time=1.0)
        done.add(task_id)
        started = time.monotonic()
        version = _new_version(backend, project_id, version, started)
        outcome.seconds_to_new_queue.append(time.monotonic() - started)
        outcome.model_versions.append(version)
        outcome.labels = len(done)
        if len(done) % MEASURE_EVERY == 0 or len(done) == labels:
            accuracy = _true_accuracy(backend, project_id, truth, done)
            outcome.true_accuracy.append({"labels": len(done), "accuracy": round(accuracy, 4)})
        progress("Labelling", len(done), labels)
    latest = backend.store.latest_round(project_id)
    outcome.check_set = latest.check_set if latest else None
    outcome.label_issues, outcome.pre_annotations = _in_label_studio(backend, project_id, version)
    return outcome


def _version(backend: Backend, project_id: int) -> str:
    return str(backend.label_studio.project(project_id)["model_version"])


def _new_version(backend: Backend, project_id: int, old: str, started: float) -> str:
    while time.monotonic() - started < NEW_QUEUE_SECONDS:
        version = _version(backend, project_id)
        if version != old:
            return version
        time.sleep(POLL_SECONDS)
    raise AnnotatorError(
        f"No new queue came within {NEW_QUEUE_SECONDS:.0f} s of an annotation; Label Studio still serves {old!r}. "
        f"Run: everylabel doctor --project {project_id}"
    )


def _head(backend: Backend, project_id: int, version: str, done: set[int]) -> int | None:
    """Return the first task of a pushed queue that is not labelled yet."""
    for record in reversed(backend.store.rounds(project_id)):
        if record.model_version == version:
            return next((id_ for id_ in (*record.queue, *record.pre_annotated) if id_ not in done), None)
    return None


def _true_accuracy(backend: Backend, project_id: int, truth: Mapping[int, str], done: set[int]) -> float:
    """Return the balanced accuracy of the backend's own `/predict` on every unlabelled crop."""
    open_ids = [id_ for id_ in sorted(truth) if id_ not in done]
    answer = httpx.post(
        f"{backend.settings.public_url}/predict",
        json={
            "tasks": [{"id": id_} for id_ in open_ids],
            "project": f"{project_id}.0",
            "label_config": str(backend.label_studio.project(project_id)["label_config"]),
            "params": {},
        },
        headers=webhook_headers(backend.settings),
        timeout=100,
    ).raise_for_status()
    predicted = [_choice(one["result"]) for one in answer.json()["results"]]
    from sklearn.metrics import balanced_accuracy_score  # noqa: PLC0415 - takes long to load

    return float(balanced_accuracy_score([truth[id_] for id_ in open_ids], predicted))


def _choice(result: list[dict[str, Any]]) -> str:
    return str(result[0]["value"]["choices"][0]) if result else ""


def _in_label_studio(backend: Backend, project_id: int, version: str) -> tuple[int, int]:
    """Return how many suspected label issues and pre-annotations of the current version Label Studio holds."""
    label_issues = pre_annotations = 0
    for task in backend.label_studio.predicted_tasks(project_id, version):
        shown = [p for p in task["predictions"] if p["model_version"] == version and p["result"]]
        if shown and task["total_annotations"]:
            label_issues += 1
        elif shown:
            pre_annotations += 1
    return label_issues, pre_annotations
