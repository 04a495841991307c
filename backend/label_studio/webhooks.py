"""The webhooks of Label Studio 1.23.2: which there are, what is in their bodies, and what of it is kept.

One model for each action reads its body and describes it (`backend/openapi.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, PlainValidator, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from everylabel.backend.label_studio.acceptance_mark import is_accepted
from everylabel.backend.label_studio.request_bodies import (
    Id,
    OptionalText,
    RequestBody,
    TaskBody,
    is_id,
    is_map,
    project_number,
)

NO_PROJECT = "The webhook names no project. Switch its payload on: `everylabel connect` does."
NO_ID = "The annotation has no id or no task."


def _project_id(value: object) -> int:
    if value is None:
        raise ValueError(NO_PROJECT)
    return project_number(value)


def _annotator(value: object) -> int | None:
    number = value.get("id") if is_map(value) else value
    return number if is_id(number) else None


def _choices(result: object) -> list[dict[str, Any]]:
    """Return the regions of a result that pick classes, and of them that alone: a brush mask would be megabytes."""
    kept = []
    for region in result if isinstance(result, list) else []:
        value = region.get("value") if is_map(region) else None
        choices = value.get("choices") if is_map(value) else None
        if isinstance(choices, list) and all(isinstance(choice, str) for choice in choices):
            kept.append({"from_name": str(region.get("from_name")), "value": {"choices": choices}})
    return kept


def _instant(value: object) -> str:
    """Return a time so written that later ones sort behind earlier ones; what is no time stays as it is.

    Label Studio leaves microseconds out where they are zero.
    """
    text = str(value or "")
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        if found.tzinfo is not None:
            found = found.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return text
    return found.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _opened_at(body: Mapping[str, Any]) -> float | None:
    """Return when the form of a new annotation was opened, in seconds since 1970; None where that is not said."""
    if _is_seconds(body.get("opened_at")):
        return float(body["opened_at"])
    if not _is_seconds(body.get("lead_time")):
        return None
    try:
        created = datetime.fromisoformat(str(body.get("created_at")).replace("Z", "+00:00"))
        return created.timestamp() - float(body["lead_time"])
    except (ValueError, OverflowError):
        return None


def _is_seconds(value: object) -> bool:
    """Return whether this is a number of seconds."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def _items(value: object) -> list[Mapping[str, Any]]:
    """Return the objects among one or several values; Label Studio sends at least one, or an empty list."""
    items = [item for item in (value if isinstance(value, list) else [value]) if is_map(item)]
    if not items and value != []:
        raise PydanticCustomError("no_items", "There is nothing in it.")
    return items


def _ids(value: object) -> list[int]:
    return [item["id"] for item in _items(value) if is_id(item.get("id"))]


def _tasks(value: object) -> list[Mapping[str, Any]]:
    """Return the tasks that come with their data: without it nothing is said about a crop, and it stays as it is."""
    return [task for task in _items(value) if is_id(task.get("id")) and is_map(task.get("data"))]


class ProjectBody(RequestBody):
    """A project's settings, as far as they are read."""

    id: Annotated[int, PlainValidator(_project_id, json_schema_input_type=Id)]
    label_config: OptionalText = None

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, body: object) -> object:
        return body if is_map(body) else {"id": body}


class AnnotatorBody(RequestBody):
    """The person who made an annotation."""

    id: Id


class ChoicesBody(RequestBody):
    """One control's value; nothing but the classes it picks is read."""

    choices: list[str] = Field(default_factory=list)


class RegionBody(RequestBody):
    """One control's part of a result."""

    from_name: str = ""
    value: ChoicesBody = ChoicesBody()


class AnnotationBody(RequestBody):
    """An annotation, as far as it is kept: in a webhook, in the store's inbox or in an answer of Label Studio's."""

    refusals: ClassVar[Mapping[str, str]] = {"id": NO_ID, "task": NO_ID}

    id: Id
    task: Id
    completed_by: Annotated[
        int | None, BeforeValidator(_annotator, json_schema_input_type=Id | AnnotatorBody | None)
    ] = None
    result: Annotated[
        list[dict[str, Any]], BeforeValidator(_choices, json_schema_input_type=list[RegionBody])
    ] = Field(default_factory=list)
    was_cancelled: Annotated[bool, BeforeValidator(bool, json_schema_input_type=bool)] = False
    updated_at: Annotated[str, BeforeValidator(_instant, json_schema_input_type=datetime)] = ""
    accepted: SkipJsonSchema[bool] = False
    """Accepted in bulk and touched by nobody since: kept in the inbox, where Label Studio tells it by other fields."""
    opened_at: SkipJsonSchema[float | None] = None
    """When its form was opened, in seconds since 1970: kept in the inbox, where Label Studio says how long it was open."""

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, body: object) -> object:
        if not is_map(body):
            return body
        accepted = body.get("accepted") is True or is_accepted(body)
        return {**body, "accepted": accepted, "opened_at": _opened_at(body)}


OneAnnotation = Annotated[
    list[AnnotationBody], BeforeValidator(_items, json_schema_input_type=AnnotationBody)
]
Annotations = Annotated[
    list[AnnotationBody], BeforeValidator(_items, json_schema_input_type=list[AnnotationBody])
]
OneTask = Annotated[list[TaskBody], BeforeValidator(_tasks, json_schema_input_type=TaskBody)]
Tasks = Annotated[list[TaskBody], BeforeValidator(_tasks, json_schema_input_type=list[TaskBody])]


class DeletedBody(RequestBody):
    """A task or an annotation that was deleted."""

    id: Id


Deleted = Annotated[list[int], BeforeValidator(_ids, json_schema_input_type=list[DeletedBody])]


class WebhookBody(RequestBody):
    """The part that every webhook has: what has happened, and in which project."""

    refusals: ClassVar[Mapping[str, str]] = {
        "action": "The webhook names no 'action'.",
        "project": NO_PROJECT,
        "project.id": NO_PROJECT,
        "annotation.id": NO_ID,
        "annotation.task": NO_ID,
    }
    refusal: ClassVar[str] = "The webhook's body has no {!r}."

    action: str
    project: ProjectBody

    def kept(self) -> dict[str, Any]:
        """Return what has to be kept of the body: no settings, names or texts beyond need."""
        kept = self.model_dump(exclude={"action", "project"})
        if self.project.label_config is not None:
            kept["label_config"] = self.project.label_config
        return kept


class ProjectWebhook(WebhookBody):
    """The button *Start training*, or other settings, or the end of a project."""

    action: Literal["START_TRAINING", "PROJECT_UPDATED", "PROJECT_DELETED"]


class AnnotationWebhook(WebhookBody):
    """An annotation is new or was changed."""

    action: Literal["ANNOTATION_CREATED", "ANNOTATION_UPDATED"]
    annotations: OneAnnotation = Field(alias="annotation")
    tasks: OneTask = Field(alias="task")


class AnnotationsWebhook(WebhookBody):
    """Annotations are new, made in bulk."""

    action: Literal["ANNOTATIONS_CREATED"]
    annotations: Annotations = Field(alias="annotation")
    tasks: Tasks = Field(alias="task")


class AnnotationsDeletedWebhook(WebhookBody):
    """Annotations were deleted; of which tasks is not said."""

    action: Literal["ANNOTATIONS_DELETED"]
    annotation_ids: Deleted = Field(alias="annotations")


class TasksWebhook(WebhookBody):
    """Tasks are new."""

    action: Literal["TASKS_CREATED"]
    tasks: Tasks


class TasksDeletedWebhook(WebhookBody):
    """Tasks were deleted."""

    action: Literal["TASKS_DELETED"]
    task_ids: Deleted = Field(alias="tasks")


Webhook = Annotated[
    ProjectWebhook
    | AnnotationWebhook
    | AnnotationsWebhook
    | AnnotationsDeletedWebhook
    | TasksWebhook
    | TasksDeletedWebhook,
    Field(discriminator="action"),
]
"""Every webhook the backend does something with."""

MODELS: dict[str, type[WebhookBody]] = {
    action: model
    for model in get_args(get_args(Webhook)[0])
    for action in get_args(model.model_fields["action"].annotation)
}
"""What reads each of them, by its action; any other webhook is answered and dropped."""
TRAINING = {action for action in MODELS if action.startswith("ANNOTATION")} | {"START_TRAINING"}
"""Webhooks after which a round is due."""


def read(body: Mapping[str, Any]) -> WebhookBody:
    """Read a webhook's body.

    Raises:
        BodyError: it lacks what its action always has.
    """
    action = body.get("action")
    model = MODELS.get(action) if isinstance(action, str) else None
    return (model or WebhookBody).read(body)
