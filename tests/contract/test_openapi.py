"""The routes keep to their OpenAPI description, whatever is sent: schemathesis makes up the requests."""

from __future__ import annotations

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
    assert rules - {"/openapi.json"} == set(DESCRIPTION["paths"])
