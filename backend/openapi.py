"""The backend's routes as OpenAPI: the requests of Label Studio 1.23.2 and the answers to them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

from everylabel.backend.label_studio.request_bodies import PredictBody, SetupBody
from everylabel.backend.label_studio.webhooks import Webhook


class Health(BaseModel):
    """The web server answers; `trainer` says whether the trainer is alive."""

    status: Literal["UP"]
    trainer: Literal["alive", "not running"]


class ModelVersion(BaseModel):
    """The model version that answers `/predict`."""

    model_version: str


class ModelVersions(BaseModel):
    """The model versions that answer `/predict`, of all projects."""

    versions: list[str]


class Prediction(BaseModel):
    """The predicted class of one task's crop."""

    result: list[dict[str, Any]]
    score: float = Field(ge=0, le=1)
    model_version: str
    error: str = Field(default="", description="Why there is no prediction.")


class Predictions(BaseModel):
    """One prediction for each task, in order."""

    results: list[Prediction]


class Pictures(BaseModel):
    """Pictures to classify."""

    images: list[str] = Field(max_length=16, description="`data:image/png;base64,…`, one a picture.")


class Texts(BaseModel):
    """Texts to classify."""

    texts: list[str] = Field(max_length=16)


class ClassifiedCrop(BaseModel):
    """The predicted class of a picture or a text, or why there is none."""

    class_: str = Field(default="", alias="class", description="Of several on a crop: `crack + dirt`.")
    confidence: float = Field(default=0, ge=0, le=1)
    probabilities: dict[str, float] = Field(default={}, description="By class.")
    novelty: float = Field(default=0, ge=0, description="Above 1: unlike everything in the project's pool.")
    unlike: bool = Field(default=False, description="Whether it is above 1.")
    error: str = Field(default="", description="Why there is no prediction.")


class ClassifiedCrops(BaseModel):
    """One answer for each picture or text, in order."""

    model_version: str
    results: list[ClassifiedCrop]


class WebhookAnswer(BaseModel):
    """The fate of a webhook."""

    status: Literal["queued", "ignored"]


class Refusal(BaseModel):
    """The reason why a request is refused."""

    error: str


_REFUSALS = {
    "400": "The request is not what Label Studio sends.",
    "401": "User name or password is wrong.",
    "403": "The key is not for this route, or a page of another site sent the request.",
    "413": "The body is larger than EVERYLABEL_MAX_REQUEST_MEGABYTES.",
    "421": "The backend has no such name (the header `Host`).",
}


def _content(model: Any) -> dict[str, Any]:
    return {"application/json": {"schema": _SCHEMAS[(model, "validation")]}}


def _answers(code: int, model: Any) -> dict[str, Any]:
    return {
        str(code): {"description": "Done.", "content": _content(model)},
        **{number: {"description": why, "content": _content(Refusal)} for number, why in _REFUSALS.items()},
    }


def _post(summary: str, body: Any, code: int, answer: Any) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": _content(body)},
            "responses": _answers(code, answer),
        }
    }


_MODELS: list[Any] = [
    SetupBody,
    PredictBody,
    Webhook,
    Health,
    ModelVersion,
    ModelVersions,
    Predictions,
    Pictures | Texts,
    ClassifiedCrops,
    WebhookAnswer,
    Refusal,
]
_SCHEMAS, _DEFINITIONS = TypeAdapter.json_schemas(
    [(model, "validation", TypeAdapter(model)) for model in _MODELS],
    ref_template="#/components/schemas/{model}",
)


def _classify() -> dict[str, Any]:
    found = _post(
        "Classify up to 16 crops with a project's model: JSON, or pictures named `images` as multipart/form-data.",
        Pictures | Texts,
        200,
        ClassifiedCrops,
    )
    number = {"type": "integer", "minimum": 1}
    refused = {
        "404": "There is no such project.",
        "409": "It has no model yet.",
        "503": "Other crops are being classified.",
    }
    found["post"]["parameters"] = [{"name": "project_id", "in": "path", "required": True, "schema": number}]
    found["post"]["responses"] |= {
        code: {"description": why, "content": _content(Refusal)} for code, why in refused.items()
    }
    return found


DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "everylabel", "version": "1", "description": __doc__},
    "components": {
        "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
        "schemas": _DEFINITIONS["$defs"],
    },
    "security": [{"basic": []}],
    "paths": {
        "/health": {
            "get": {
                "summary": "Check that the web server and the trainer are alive.",
                "security": [],
                "responses": {"200": {"description": Health.__doc__, "content": _content(Health)}},
            }
        },
        "/setup": _post(
            "Receive a project's labeling config; sent on connecting and before every prediction.",
            SetupBody,
            200,
            ModelVersion,
        ),
        "/predict": _post("Return one prediction for each task, in order.", PredictBody, 200, Predictions),
        "/projects/{project_id}/classify": _classify(),
        "/webhook": _post(
            "Receive what has happened in a project; it is on disk before it is answered.",
            Webhook,
            201,
            WebhookAnswer,
        ),
        "/versions": {
            "get": {
                "summary": "Return the model versions that answer `/predict`, of all projects.",
                "responses": _answers(200, ModelVersions),
            }
        },
        "/metrics": {
            "get": {
                "summary": "Return Prometheus metrics.",
                "responses": {"200": {"description": "Text.", "content": {"text/plain": {}}}},
            }
        },
    },
}
"""OpenAPI 3.1, served at `/openapi.json`."""
