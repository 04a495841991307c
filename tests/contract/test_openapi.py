"""The routes keep to their OpenAPI description, whatever is sent: schemathesis makes up the requests."""

from __future__ import annotations

import re

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from everylabel.backend.app import create_app
from everylabel.backend.label_studio import webhooks
from everylabel.backend.label_studio.request_bodies import BodyError
from everylabel.backend.openapi import DESCRIPTION

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture
def app(make_services):
    return create_app(make_services(predict_seconds=0.05))


@pytest.fixture
def description(app):
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


OPERATIONS = [(path, method) for path, methods in DESCRIPTION["paths"].items() for method in methods]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_route_keeps_to_its_description(description, path, method):
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=description[path][method].as_strategy())
    def ask(case):
        case.call_and_validate(checks=CHECKS)

    ask()


def test_every_route_is_described(app):
    # The page is for people: what its routes answer is no contract.
    own = {"static", "page"}
    rules = {rule.rule for rule in app.url_map.iter_rules() if rule.endpoint.partition(".")[0] not in own}
    rules = {re.sub(r"<int:(\w+)>", r"{\1}", rule) for rule in rules}
    assert rules - {"/openapi.json"} == set(DESCRIPTION["paths"])


def test_the_webhook_of_every_action_that_is_used_is_described_and_read_alike(stand_in, project):
    created = stand_in.annotate(1, "0")
    annotation, task = created["annotation"], created["task"]
    bodies = {
        "ANNOTATION_UPDATED": created,
        "ANNOTATION_CREATED": created,
        "ANNOTATIONS_CREATED": created | {"annotation": [annotation], "task": [task]},
        "ANNOTATIONS_DELETED": stand_in.webhook("", annotations=[{"id": annotation["id"]}]),
        "TASKS_CREATED": stand_in.webhook("", tasks=[task]),
        "TASKS_DELETED": stand_in.webhook("", tasks=[{"id": 1}]),
        "START_TRAINING": stand_in.webhook(""),
        "PROJECT_UPDATED": stand_in.webhook(""),
        "PROJECT_DELETED": stand_in.webhook(""),
    }
    assert bodies.keys() == webhooks.MODELS.keys()
    described = DESCRIPTION["paths"]["/webhook"]["post"]["requestBody"]["content"]["application/json"]
    schema = jsonschema.Draft202012Validator(described["schema"] | {"components": DESCRIPTION["components"]})
    for action, body in bodies.items():
        sent = body | {"action": action}
        schema.validate(sent)
        kept = webhooks.read(sent).kept()
        assert kept.pop("label_config") == sent["project"]["label_config"]
        for field in sent.keys() - {"action", "project"}:
            assert any(kept.values())
            missing = {name: value for name, value in sent.items() if name != field}
            assert not schema.is_valid(missing)
            with pytest.raises(BodyError, match=repr(field)):
                webhooks.read(missing)
