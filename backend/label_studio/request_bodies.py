"""The bodies of Label Studio's requests: `/setup` and `/predict` here, `/webhook` in `webhooks`.

The models read the requests and make the OpenAPI document (`backend/openapi.py`). They are as lenient as the
releases of Label Studio differ: fields that nobody reads are ignored, and optional ones of a wrong type count as
absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeGuard, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from everylabel.backend.label_studio.crop_fields import is_outline
from everylabel.backend.store import LARGEST_ID

MOST_CONTAINERS = 2_000_000
"""Lists and objects in a body. 100,000 tasks have under a million; 60 MB of `[],[],` would take 1.4 GB, and many seconds in
which no other thread runs."""
PROJECT = re.compile(r"([0-9]{1,19})(\.[0-9]+)?")

Body = TypeVar("Body", bound="RequestBody")


class BodyError(ValueError):
    """A request's body is not what Label Studio sends; the message says what is missing."""


def json_object(content: bytes) -> dict[str, Any]:
    r"""Read a request's body: a JSON object of Unicode texts.

    Half a character, such as `"\ud800"`, is refused: JSON allows it, and no database takes it.

    Raises:
        BodyError: It is something else, or holds more lists and objects than `MOST_CONTAINERS`.
    """
    if content.count(b"[") + content.count(b"{") > MOST_CONTAINERS:
        raise BodyError(
            f"The request's body holds more than {MOST_CONTAINERS:,} lists and objects. Send it in several requests."
        )
    try:
        body = json.loads(content)
        if b"\\ud" in content.lower():
            json.dumps(body, ensure_ascii=False).encode()
    except RecursionError as error:
        raise BodyError("The request's body is nested too deeply.") from error
    except UnicodeEncodeError as error:
        raise BodyError("The request's body holds text that is not Unicode.") from error
    except ValueError as error:
        raise BodyError("The request's body is not a JSON object.") from error
    if not isinstance(body, dict):
        raise BodyError("The request's body is not a JSON object.")
    return body


def is_id(value: object) -> TypeGuard[int]:
    """Return whether this is a number Label Studio may have given a task, an annotation or a user."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_ID


def is_map(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether this is a JSON object."""
    return isinstance(value, Mapping)


def project_number(project: object) -> int:
    """Read a project's number from `7`, `"7"` or the protocol's `"7.1700000000"`.

    Raises:
        ValueError: there is none.
    """
    text = str(project) if isinstance(project, (str, int)) else "None"
    match = PROJECT.fullmatch(text)
    number = int(match.group(1)) if match else 0
    if not 0 < number <= LARGEST_ID:
        raise ValueError(f"{text[:50]!r} is not a project. Label Studio sends it as '<id>.<created>'.")
    return number


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _map_or_none(value: object) -> Mapping[str, Any] | None:
    return value if is_map(value) else None


def _map_or_empty(value: object) -> Mapping[str, Any]:
    return value if is_map(value) else {}


def _objects(value: object) -> list[dict[str, Any]]:
    """Return a list of objects as it was sent: tasks go on to `predict`, whose contract takes them so."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise PydanticCustomError("no_objects", "It is no list of objects.")
    return value


def _crop_fields(data: object) -> dict[str, Any]:
    """Return of a task's data the texts and numbers (a crop's address and box) and the points of polygons."""
    items = data.items() if is_map(data) else ()
    return {key: value for key, value in items if isinstance(value, (str, int, float)) or is_outline(value)}


Id = Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)]
"""The number of a task, an annotation or a user."""
ProjectUid = Annotated[
    int,
    PlainValidator(project_number),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^[1-9][0-9]{0,17}(\.[0-9]{1,12})?$",
            "description": "`<id>.<created>`, as Label Studio names a project to a backend.",
        }
    ),
]
OptionalText = Annotated[str | None, PlainValidator(_text_or_none, json_schema_input_type=str)]
OptionalMap = Annotated[
    dict[str, Any] | None, PlainValidator(_map_or_none, json_schema_input_type=dict[str, Any])
]
UnreadText = Annotated[Any, WithJsonSchema({"type": "string"})]
"""A text that Label Studio sends and nobody reads."""


class RequestBody(BaseModel):
    """A JSON object that Label Studio sends; fields that are not declared are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    refusals: ClassVar[Mapping[str, str]] = {}
    """The messages for a missing or wrong field, by its path without indices: `annotation.id`."""
    refusal: ClassVar[str] = "The request's body has no valid {!r}."
    """The message for any other field."""

    @classmethod
    def read(cls: type[Body], body: Mapping[str, Any]) -> Body:
        """Read a body.

        Raises:
            BodyError: it lacks what every such request has.
        """
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            raise BodyError(cls._why_refused(error)) from error

    @classmethod
    def _why_refused(cls, error: ValidationError) -> str:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "value_error":
            return str(first["ctx"]["error"])
        path = ".".join(part for part in first["loc"] if isinstance(part, str))
        return cls.refusals.get(path, cls.refusal.format(path))


class TaskBody(RequestBody):
    """A task, as far as it is read: the fields of its data that say what its crop is."""

    id: Id
    data: Annotated[dict[str, Any], BeforeValidator(_crop_fields, json_schema_input_type=dict[str, Any])] = (
        Field(default_factory=dict)
    )


class SetupBody(RequestBody):
    """A project's labeling config."""

    refusals: ClassVar[Mapping[str, str]] = {"schema": "The request has no labeling config in 'schema'."}

    project: ProjectUid
    label_config: str = Field(alias="schema")
    hostname: UnreadText = None
    access_token: UnreadText = Field(default=None, repr=False)
    extra_params: Any = None


class PredictParams(RequestBody):
    """The options that come with tasks to predict."""

    context: OptionalMap = None


class PredictBody(RequestBody):
    """Tasks to predict, and the labeling config of their project."""

    refusals: ClassVar[Mapping[str, str]] = {"tasks": "The request has no list of tasks in 'tasks'."}

    tasks: Annotated[list[dict[str, Any]], PlainValidator(_objects, json_schema_input_type=list[TaskBody])]
    project: ProjectUid
    label_config: OptionalText = None
    params: Annotated[PredictParams, BeforeValidator(_map_or_empty, json_schema_input_type=PredictParams)] = (
        PredictParams()
    )
