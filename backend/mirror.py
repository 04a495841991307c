"""Keeps the store equal to what Label Studio holds: webhooks as they come, and the whole project when asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from backend import label_config
from backend.label_config import ImageChoices, LabelConfigError
from backend.label_studio import LabelStudio
from backend.store import Annotation, Event, Store, Task

log = logging.getLogger(__name__)

ANNOTATIONS = {"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED"}
"""Webhooks that carry whole annotations."""
TRAINING = ANNOTATIONS | {"ANNOTATIONS_DELETED", "START_TRAINING"}
"""Webhooks after which a round is due."""
KNOWN = TRAINING | {"TASKS_CREATED", "TASKS_DELETED", "PROJECT_UPDATED", "PROJECT_DELETED"}
"""Webhooks the backend does something with; any other is answered and dropped."""
LARGEST_ID = 2**63 - 1
"""What a database takes as an id."""


@dataclass(frozen=True)
class Change:
    """What a look at Label Studio has changed in the store."""

    labels: bool = False
    tasks: bool = False
    config: bool = False
    training_asked: bool = False

    def __or__(self, other: Change) -> Change:
        return Change(
            self.labels or other.labels,
            self.tasks or other.tasks,
            self.config or other.config,
            self.training_asked or other.training_asked,
        )

    def __bool__(self) -> bool:
        return self.labels or self.tasks or self.config or self.training_asked


class EventError(ValueError):
    """A webhook's body is not what Label Studio sends; the message says what is missing."""


def compact(action: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What of a webhook's body has to be kept: no settings, names or texts beyond need.

    Raises:
        EventError: the body lacks what its action always has.
    """
    event: dict[str, Any] = {}
    project = body.get("project")
    if isinstance(project, Mapping) and isinstance(project.get("label_config"), str):
        event["label_config"] = project["label_config"]
    if action in ANNOTATIONS:
        event["annotations"] = [_annotation_fields(a) for a in _list(body, "annotation")]
        event["tasks"] = [_task_fields(t) for t in _list(body, "task") if _is_task(t)]
    elif action == "ANNOTATIONS_DELETED":
        event["annotation_ids"] = [a["id"] for a in _list(body, "annotations") if is_id(a.get("id"))]
    elif action == "TASKS_CREATED":
        event["tasks"] = [_task_fields(t) for t in _list(body, "tasks") if _is_task(t)]
    elif action == "TASKS_DELETED":
        event["task_ids"] = [t["id"] for t in _list(body, "tasks") if is_id(t.get("id"))]
    return event


def is_id(value: object) -> TypeGuard[int]:
    """Whether this is a number Label Studio may have given a task, an annotation or a user."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_ID


class Mirror:
    """Brings Label Studio's state of a project into the store.

    Events may come twice, late or in another order: an annotation is stored by its id, and an older version of
    it never replaces a newer one.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def apply(self, project_id: int, events: Iterable[Event]) -> Change:
        """Work webhooks into the store."""
        change = Change()
        for event in events:
            change |= self._apply(project_id, event.action, event.payload)
        return change

    def reconcile(
        self,
        label_studio: LabelStudio,
        project_id: int,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Change:
        """Read the whole project from Label Studio: what webhooks lost is found here.

        Raises:
            LabelConfigError: nothing in the labeling config classifies an image.
            LabelStudioError: Label Studio does not answer, refuses the token or has no such project.
        """

        def report(what: str) -> Callable[[int, int], None] | None:
            return None if progress is None else (lambda done, total: progress(what, done, total))

        project = label_studio.project(project_id)
        change = self._save_config(project_id, str(project["label_config"]))
        control = label_config.parse(str(project["label_config"]))

        before = {task.id: task.image_url for task in self._store.tasks(project_id)}
        tasks = {
            int(t["id"]): control.image_url(t.get("data"))
            for t in label_studio.tasks(project_id, progress=report("Reading tasks"))
        }
        if tasks != before:
            self._save_tasks(project_id, [Task(id_, url) for id_, url in tasks.items()])
            self._store.delete_tasks(project_id, before.keys() - tasks.keys())
            change |= Change(tasks=True)

        held = {a.id: a for a in self._store.annotations(project_id)}
        annotations = {
            annotation.id: annotation
            for task in label_studio.tasks(project_id, annotated=True, progress=report("Reading annotations"))
            for annotation in (_annotation(a, control) for a in task.get("annotations") or [])
            if annotation is not None
        }
        if annotations != held:
            self._store.save_annotations(project_id, annotations.values(), as_read=True)
            self._store.delete_annotations(project_id, held.keys() - annotations.keys())
            change |= Change(labels=True)
        return change

    def _apply(self, project_id: int, action: str, payload: Mapping[str, Any]) -> Change:
        change = Change(training_asked=action in TRAINING)
        if "label_config" in payload:
            change |= self._save_config(project_id, payload["label_config"])
        project = self._store.project(project_id)
        try:
            control = label_config.parse(project.label_config if project else "")
        except LabelConfigError as error:
            log.warning("project %s: %s", project_id, error)
            return change
        if payload.get("tasks"):
            tasks = [Task(int(t["id"]), control.image_url(t.get("data"))) for t in payload["tasks"]]
            self._save_tasks(project_id, tasks)
            change |= Change(tasks=action == "TASKS_CREATED")
        if payload.get("annotations"):
            found = (_annotation(a, control) for a in payload["annotations"])
            self._store.save_annotations(project_id, [a for a in found if a is not None])
            change |= Change(labels=True)
        if payload.get("annotation_ids"):
            self._store.delete_annotations(project_id, payload["annotation_ids"])
            change |= Change(labels=True)
        if payload.get("task_ids"):
            self._store.delete_tasks(project_id, payload["task_ids"])
            change |= Change(tasks=True, labels=True)
        return change

    def _save_config(self, project_id: int, config: str) -> Change:
        project = self._store.project(project_id)
        if project is not None and project.label_config == config:
            return Change()
        self._store.save_project(project_id, label_config=config)
        return Change(config=project is not None)

    def _save_tasks(self, project_id: int, tasks: list[Task]) -> None:
        self._store.save_tasks(project_id, tasks)
        missing = [task.id for task in tasks if task.image_url is None]
        if missing:
            project = self._store.project(project_id)
            key = label_config.parse(project.label_config).image_key if project else "image"
            why = f"The task has no image: its data lacks the text {key!r} that the labeling config shows."
            self._store.save_problems(project_id, dict.fromkeys(missing, why))


def _annotation_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    if not is_id(body.get("id")) or not is_id(body.get("task")):
        raise EventError("The annotation has no id or no task.")
    by = body.get("completed_by")
    if isinstance(by, Mapping):
        by = by.get("id")
    return {
        "id": body["id"],
        "task": body["task"],
        "completed_by": by if is_id(by) else None,
        "result": _choices(body.get("result")),
        "was_cancelled": bool(body.get("was_cancelled")),
        "updated_at": str(body.get("updated_at") or ""),
    }


def _is_task(body: Mapping[str, Any]) -> bool:
    """Whether a task comes with its data: without, nothing is said about its image, and it is left as it is."""
    return is_id(body.get("id")) and _is_map(body.get("data"))


def _task_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    data = body.get("data")
    texts = {key: value for key, value in data.items() if isinstance(value, str)} if _is_map(data) else {}
    return {"id": body["id"], "data": texts}


def _choices(result: object) -> list[dict[str, Any]]:
    """The regions of a result that pick classes, and of them that alone: a brush mask would be megabytes."""
    kept = []
    for region in result if isinstance(result, list) else []:
        value = region.get("value") if _is_map(region) else None
        choices = value.get("choices") if _is_map(value) else None
        if isinstance(choices, list) and all(isinstance(choice, str) for choice in choices):
            kept.append({"from_name": str(region.get("from_name")), "value": {"choices": choices}})
    return kept


def _annotation(body: Mapping[str, Any], control: ImageChoices) -> Annotation | None:
    fields = _annotation_fields(body)
    return Annotation(
        id=fields["id"],
        task_id=fields["task"],
        annotator=fields["completed_by"],
        choice=control.choice(fields["result"]),
        cancelled=fields["was_cancelled"],
        updated_at=fields["updated_at"],
    )


def _list(body: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = body.get(key)
    items = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, Mapping)]
    if not items and value != []:
        raise EventError(f"The webhook's body has no {key!r}.")
    return items


def _is_map(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)
