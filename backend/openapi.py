"""The backend's routes as OpenAPI: what Label Studio 1.23.2 sends, and what it is answered."""

from __future__ import annotations

from typing import Any

from everylabel.backend.store import LARGEST_ID

_OBJECT = {"type": "object", "additionalProperties": True}
_ID = {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}
_PROJECT_UID = {
    "type": "string",
    "pattern": r"^[1-9][0-9]{0,17}(\.[0-9]{1,12})?$",
    "description": "`<id>.<created>`, as Label Studio names a project to a backend.",
}
_PROJECT = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": _ID, "label_config": {"type": "string"}},
}
_TASK = {"type": "object", "required": ["id"], "properties": {"id": _ID, "data": _OBJECT}}
_ANNOTATION = {
    "type": "object",
    "required": ["id", "task"],
    "properties": {
        "id": _ID,
        "task": _ID,
        "completed_by": {"anyOf": [_ID, _OBJECT, {"type": "null"}]},
        "result": {"type": "array", "items": _OBJECT},
        "was_cancelled": {"type": "boolean"},
        "updated_at": {"type": "string", "format": "date-time"},
    },
}
_PREDICTION = {
    "type": "object",
    "required": ["result", "score", "model_version"],
    "properties": {
        "result": {"type": "array", "items": _OBJECT},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "model_version": {"type": "string"},
        "error": {"type": "string", "description": "Why there is no prediction."},
    },
}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _answers(code: int, schema: dict[str, Any]) -> dict[str, Any]:
    refusals = {
        "400": "The request is not what Label Studio sends.",
        "401": "User name or password is wrong.",
        "403": "The key is not for this route, or a page of another site sent the request.",
        "421": "The backend has no such name (the header `Host`).",
    }
    refusals |= {"413": "The body is larger than EVERYLABEL_MAX_REQUEST_MEGABYTES."}
    return {
        str(code): {"description": "Done.", "content": {"application/json": {"schema": schema}}},
        **{
            number: {"description": why, "content": {"application/json": {"schema": _ERROR}}}
            for number, why in refusals.items()
        },
    }


def _post(summary: str, body: dict[str, Any], code: int, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": _answers(code, answer),
        }
    }


def _get(summary: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": _answers(200, answer)}}


_WEBHOOK = {
    "oneOf": [
        _object(["action", "project"], action={"const": "START_TRAINING"}, project=_PROJECT),
        _object(["action", "project"], action={"const": "PROJECT_UPDATED"}, project=_PROJECT),
        _object(
            ["action", "project", "annotation", "task"],
            action={"enum": ["ANNOTATION_CREATED", "ANNOTATION_UPDATED"]},
            project=_PROJECT,
            annotation=_ANNOTATION,
            task=_TASK,
        ),
        _object(
            ["action", "project", "annotation", "task"],
            action={"const": "ANNOTATIONS_CREATED"},
            project=_PROJECT,
            annotation={"type": "array", "items": _ANNOTATION},
            task={"type": "array", "items": _TASK},
        ),
        _object(
            ["action", "project", "annotations"],
            action={"const": "ANNOTATIONS_DELETED"},
            project=_PROJECT,
            annotations={"type": "array", "items": _object(["id"], id=_ID)},
        ),
        _object(
            ["action", "project", "tasks"],
            action={"const": "TASKS_CREATED"},
            project=_PROJECT,
            tasks={"type": "array", "items": _TASK},
        ),
        _object(
            ["action", "project", "tasks"],
            action={"const": "TASKS_DELETED"},
            project=_PROJECT,
            tasks={"type": "array", "items": _object(["id"], id=_ID)},
        ),
    ]
}

DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "everylabel", "version": "1", "description": __doc__},
    "components": {"securitySchemes": {"basic": {"type": "http", "scheme": "basic"}}},
    "security": [{"basic": []}],
    "paths": {
        "/health": {
            "get": {
                "summary": "Whether the web server and the trainer live.",
                "security": [],
                "responses": {
                    "200": {
                        "description": "The web server answers; `trainer` says whether the trainer lives.",
                        "content": {
                            "application/json": {
                                "schema": _object(
                                    ["status", "trainer"],
                                    status={"const": "UP"},
                                    trainer={"enum": ["alive", "not running"]},
                                )
                            }
                        },
                    }
                },
            }
        },
        "/setup": _post(
            "A project's labeling config; sent on connecting and before every prediction.",
            _object(
                ["project", "schema"],
                project=_PROJECT_UID,
                schema={"type": "string"},
                hostname={"type": "string"},
                access_token={"type": "string"},
                extra_params={},
            ),
            200,
            _object(["model_version"], model_version={"type": "string"}),
        ),
        "/predict": _post(
            "One prediction a task, in order.",
            _object(
                ["tasks", "project"],
                tasks={"type": "array", "items": _TASK},
                project=_PROJECT_UID,
                label_config={"type": "string"},
                params=_OBJECT,
            ),
            200,
            _object(["results"], results={"type": "array", "items": _PREDICTION}),
        ),
        "/webhook": _post(
            "What has happened in a project; on disk before it is answered.",
            _WEBHOOK,
            201,
            _object(["status"], status={"enum": ["queued", "ignored"]}),
        ),
        "/versions": _get(
            "The model versions that answer `/predict`, of all projects.",
            _object(["versions"], versions={"type": "array", "items": {"type": "string"}}),
        ),
        "/metrics": {
            "get": {
                "summary": "Prometheus metrics.",
                "responses": {"200": {"description": "Text.", "content": {"text/plain": {}}}},
            }
        },
    },
}
"""OpenAPI 3.1, served at `/openapi.json`."""
