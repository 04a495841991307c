"""Annotators by name: read by the trainer, shown from the store, and never in anybody's way."""

from __future__ import annotations

import logging

import pytest
from typer.testing import CliRunner

from everylabel.backend.label_studio.annotators import (
    REFRESH_SECONDS,
    RETRY_SECONDS,
    AnnotatorNames,
    annotator_name,
    names_by_id,
)
from everylabel.backend.store import Annotator
from everylabel.scripts import cli
from tests.stand_in_label_studio import CLASSES


def user(id_, first="", last="", email=""):
    return {"id": id_, "first_name": first, "last_name": last, "email": email, "username": email[:5]}


def asked(stand_in):
    return stand_in.calls.count(("GET", "/api/users/"))


@pytest.fixture
def clock():
    return [1_000_000.0]


@pytest.fixture
def names(services, clock):
    return AnnotatorNames(services.store, services.label_studio, lambda: clock[0])


def test_the_trainer_reads_a_new_annotators_name_with_their_first_label(stand_in, services, project, send):
    stand_in.users = [user(1, "Ada", "Lovelace", "ada@example.com"), user(4, email="bo@example.com")]
    task, *_ = project
    send(stand_in.annotate(task, CLASSES[0], completed_by=1))
    assert services.trainer.learn(1)
    assert names_by_id(services.store) == {1: "Ada Lovelace", 4: "bo@example.com"}
    before = asked(stand_in)
    send(stand_in.annotate(task + 1, CLASSES[0], completed_by=4))
    assert services.trainer.learn(1)
    assert asked(stand_in) == before, "the name was known"


def test_status_calls_annotators_by_name_and_asks_nobody(stand_in, services, project, send, monkeypatch):
    stand_in.users = [user(1, "Ada", "[Countess]", "ada@example.com")]
    first, second, third, *_ = project
    for task, who in ((first, 1), (second, 1), (third, 7)):
        send(stand_in.annotate(task, CLASSES[0], completed_by=who))
    assert services.trainer.learn(1)
    stand_in.down = True
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", stand_in.url)
    said = CliRunner().invoke(cli.app, ["status", "--project", "1"], env={"COLUMNS": "100"}).output
    assert "Ada [Countess] 2, annotator 7 1" in said


def test_people_of_one_name_are_told_apart(services):
    services.store.save_annotators(
        [
            Annotator(1, "Kim Lee", "kim@example.com"),
            Annotator(2, "kim lee", ""),
            Annotator(3, "", "kim@elsewhere.example"),
            Annotator(4, "", ""),
        ]
    )
    names = names_by_id(services.store)
    assert names == {1: "Kim Lee (kim@example.com)", 2: "kim lee (2)", 3: "kim@elsewhere.example"}
    assert annotator_name(4, names) == "annotator 4"
    assert annotator_name(None, names) == "not known"


def test_a_name_that_changes_is_shown_within_the_hour(stand_in, services, names, clock):
    stand_in.users = [user(1, email="ada@example.com")]
    names.refresh()
    stand_in.users = [user(1, "Ada", "Lovelace", "ada@example.com")]
    names.refresh()
    assert names_by_id(services.store) == {1: "ada@example.com"}
    clock[0] += REFRESH_SECONDS
    names.refresh()
    assert names_by_id(services.store) == {1: "Ada Lovelace"}


def test_somebody_label_studio_does_not_list_is_not_asked_for_again_and_again(
    stand_in, services, project, send, names
):
    send(stand_in.annotate(next(iter(project)), CLASSES[0], completed_by=9))
    services.loop.catch_up(1)
    before = asked(stand_in)
    for _ in range(3):
        names.refresh()
    assert asked(stand_in) == before + 1


def test_a_label_studio_that_tells_no_names_stops_nothing(stand_in, services, names, clock, caplog):
    services.store.save_annotators([Annotator(1, "Ada Lovelace", "")])
    stand_in.token = "another"
    with caplog.at_level(logging.DEBUG):
        names.refresh()
        names.refresh()
    assert asked(stand_in) == 1
    assert names_by_id(services.store) == {1: "Ada Lovelace"}
    stand_in.token = services.settings.label_studio_api_key.get_secret_value()
    stand_in.users = [user(1, "Ada", "King", "ada@example.com")]
    clock[0] += RETRY_SECONDS
    with caplog.at_level(logging.DEBUG):
        names.refresh()
    assert names_by_id(services.store) == {1: "Ada King"}
    assert "Ada" not in caplog.text
    assert "ada@example.com" not in caplog.text


@pytest.mark.parametrize("odd", [{}, {"id": "1"}, {"id": True}, {"id": 0}, {"id": 2**80}])
def test_odd_users_are_passed_over(stand_in, services, names, odd):
    stand_in.users = [odd, {"id": 2, "first_name": None, "last_name": "Noether\x1b[31m", "email": 3}]
    names.refresh()
    assert names_by_id(services.store) == {2: "Noether[31m"}


def test_the_page_learns_that_names_have_come(services, project):
    before = services.store.state(1)
    services.store.save_annotators([Annotator(1, "Ada Lovelace", "")])
    assert services.store.state(1) != before
