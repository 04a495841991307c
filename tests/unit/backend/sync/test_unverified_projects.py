"""Projects that a request names and Label Studio does not have: nothing of them is left, and nobody waits for them."""

from __future__ import annotations

import time

import pytest

from everylabel.backend.app import create_app
from tests.stand_in_label_studio import label_config

STRANGERS = range(1000, 1300)


@pytest.fixture
def client(services):
    return create_app(services).test_client()


def folders(services):
    return {path.name for path in (services.settings.model_dir / "projects").glob("*")}


def test_projects_that_do_not_exist_leave_nothing_and_keep_no_real_one_waiting(
    client, services, stand_in, project, trainer, wait
):
    for number in STRANGERS:
        assert (
            client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": number}}).status_code
            == 201
        )
        body = {"project": f"{number}.1", "schema": label_config()}
        assert number % 3 or client.post("/setup", json=body).status_code == 200
    before = services.store.latest_round(1).number
    assert client.post("/webhook", json=stand_in.annotate(1, project[1])).status_code == 201
    wait(lambda: services.store.latest_round(1).number > before)
    assert services.store.projects_with_events() not in ([], [1]), "they were all through: this says nothing"
    wait(lambda: not services.store.projects_with_events())
    services.trainer.run_maintenance()  # those of /setup alone
    wait(lambda: [found.id for found in services.store.projects()] == [1])
    assert folders(services) == {"1"}


def test_a_project_that_exists_is_confirmed_once_and_worked_on(
    client, services, stand_in, trainer, wait, digit_crops
):
    stand_in.add_project(2)
    stand_in.add_tasks(2, *(image for image, _ in digit_crops[:12]))
    assert client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 2}}).status_code == 201
    wait(lambda: services.store.latest_round(2) is not None)


def test_while_label_studio_is_away_nothing_is_forgotten(client, services, stand_in, monkeypatch, wait):
    monkeypatch.setattr("everylabel.backend.sync.unverified_projects.RETRY_SECONDS", 0.0)
    stand_in.add_project(2)
    stand_in.down = True
    body = {"action": "START_TRAINING", "project": {"id": 2}}
    client.post("/webhook", json=body)
    for _ in range(3):
        assert services.trainer.waiting() == []
        time.sleep(0.05)
    assert services.store.projects_with_events() == [2]
    stand_in.down = False
    wait(lambda: services.trainer.waiting() == [2])


def test_a_project_that_is_being_worked_on_is_forgotten_later(client, services, wait):
    body = {"project": "1000.1", "schema": label_config()}
    assert client.post("/setup", json=body).status_code == 200
    with services.files(1000).embedding_lock():
        for _ in range(3):
            services.trainer.run_maintenance()
            time.sleep(0.1)
        assert services.store.project(1000) is not None
    services.trainer.run_maintenance()
    wait(lambda: services.store.project(1000) is None)
    wait(lambda: folders(services) == set())


def test_only_so_many_projects_that_nobody_has_found_are_kept(
    client, services, stand_in, project, monkeypatch
):
    monkeypatch.setattr("everylabel.backend.ml_backend.MOST_UNVERIFIED", 3)
    stand_in.down = True

    def setup(number):
        return client.post("/setup", json={"project": f"{number}.1", "schema": label_config()})

    assert [setup(number).status_code for number in (1000, 1001, 1002, 1003, 1000, 1)] == [
        *(200, 200, 200),
        503,
        *(200, 200),
    ]
    assert "everylabel doctor" in setup(1003).status
    assert len(services.store.projects()) == 4
