"""`doctor` says of what goes wrong in the background and stops nobody."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from everylabel.backend.label_studio import webhooks
from everylabel.backend.store import faults, requests
from everylabel.backend.worker import map_drawing
from everylabel.backend.worker.map_drawing import MapDrawer
from everylabel.scripts.background_checks import CheckFailedError, background, waiting


def fault(services):
    """What the check of the background says; None where all is well."""
    try:
        background(services, 1)
    except CheckFailedError as error:
        with pytest.raises(CheckFailedError):
            background(services, None)
        return str(error)
    return None


def compare(services):
    services.loop.catch_up(1, compare=True)


def test_labels_that_only_comparing_finds_mean_that_webhooks_do_not_arrive(stand_in, services, project):
    tasks = iter(project)
    stand_in.annotate(next(tasks), "0")  # as while the backend was down
    compare(services)
    compare(services)
    assert fault(services) is None
    stand_in.annotate(next(tasks), "1")
    compare(services)
    assert "last 2 comparisons" in fault(services)
    assert f"reach {services.settings.public_url}?" in fault(services)
    body = stand_in.annotate(next(tasks), "2")
    services.store.add_event(1, body["action"], webhooks.read(body).kept())
    services.loop.catch_up(1)
    assert fault(services) is None, "one has arrived"


def test_the_labels_of_a_project_that_is_connected_are_no_fault(stand_in, services, digit_crops):
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops[:8]))
    for id_ in ids[:3]:
        stand_in.annotate(id_, "0")
    services.store.save_project(1, connected=True)
    compare(services)
    assert faults.find(services.files(1).folder, faults.WEBHOOKS) is None


def test_a_map_that_cannot_be_drawn_is_named_until_it_is_drawn(services, project, monkeypatch):
    drawer = MapDrawer(services.store, services.files, services.embeddings)
    run, answer = subprocess.run, SimpleNamespace(returncode=-9, stderr="a secret")
    monkeypatch.setattr(map_drawing.subprocess, "run", lambda *_, **__: answer)
    drawer.draw_due()
    assert "its map could not be drawn (status -9" in fault(services)
    assert "a secret" not in fault(services)
    monkeypatch.setattr(map_drawing.subprocess, "run", run)
    MapDrawer(services.store, services.files, services.embeddings).draw_due()
    assert fault(services) is None


def test_a_host_that_answers_for_no_picture_is_named_while_crops_are_missing(services, project):
    folder = services.files(1).folder
    faults.note(folder, faults.IMAGES, "pictures.example did not answer", 5.0)
    assert fault(services) is None, "every crop of it is embedded"
    services.store.forget_embeddings(1, "another")
    assert "pictures.example did not answer" in fault(services)


def test_a_request_nobody_takes_is_named_once_it_has_waited_long(services, project, monkeypatch):
    services.jobs.learn(1)
    waiting(services, None)
    now = requests.time.time()
    monkeypatch.setattr(requests.time, "time", lambda: now + 300)
    with pytest.raises(CheckFailedError, match="request to the trainer has waited for 5 min"):
        waiting(services, None)


def test_a_fault_that_lasts_is_counted_and_keeps_its_beginning(tmp_path):
    for now in (7.0, 8.0, 9.0):
        faults.note(tmp_path, faults.MAP, "memory", now)
    assert faults.find(tmp_path, faults.MAP) == faults.Fault("memory", 7.0, 3)
    (tmp_path / "fault-map.json").write_bytes(b"\xff{")
    assert faults.find(tmp_path, faults.MAP) is None
    faults.over(tmp_path, faults.MAP)
    faults.over(tmp_path / "gone", faults.MAP)
    faults.note(tmp_path / "gone", faults.MAP, "memory", 7.0)
