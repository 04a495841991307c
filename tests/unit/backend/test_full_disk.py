"""A full disk: nothing pretends to be stored, and what was missed is found once there is space."""

from __future__ import annotations

import pytest
from sqlalchemy.event import listen, remove

from everylabel.backend.app import create_app


@pytest.fixture
def full_disk(services):
    """Lets SQLite find its disk full until it is called; the error is SQLite's own."""

    def no_page_more(connection, *_):
        connection.execute("PRAGMA max_page_count = 1")  # never below what the file has already

    def as_before(connection, *_):
        connection.execute("PRAGMA max_page_count = 1000000")

    engines = [services.store._engine, services.store._inbox._engine]
    for engine in engines:
        listen(engine, "checkout", no_page_more)

    def freed():
        for engine in engines:
            remove(engine, "checkout", no_page_more)
            listen(engine, "checkout", as_before)

    return freed


def _fill(client, stand_in, project):
    """Send webhooks until one is refused; returns its answer, and how many were kept before."""
    for sent, task in enumerate(project):
        body = stand_in.annotate(task, project[task])
        body["task"]["data"]["note"] = "x" * 1500
        answer = client.post("/webhook", json=body)
        if answer.status_code != 201:
            return answer, sent
    raise AssertionError("every webhook was kept")


def test_a_webhook_that_cannot_be_kept_is_answered_503_and_its_label_is_found_later(
    stand_in, services, project, full_disk
):
    client = create_app(services).test_client()
    answer, kept = _fill(client, stand_in, project)
    assert answer.status_code == 503
    assert "disk is full" in answer.json["error"]
    assert "not kept" in answer.status
    assert len(services.store.events(1)) == kept, "what was answered 201 is there, and nothing else"
    assert client.get("/health").status_code == 200

    full_disk()
    services.loop.catch_up(1, compare=True)
    labelled = {task["id"] for task in stand_in.tasks.values() if task["annotations"]}
    assert {a.task_id for a in services.store.annotations(1)} == labelled
    assert len(labelled) == kept + 1
    assert services.store.latest_round(1).n_labels == kept + 1
    assert client.post("/webhook", json=stand_in.annotate(40, "0")).status_code == 201


def test_the_watch_for_webhooks_goes_on_after_the_disk_was_full(
    stand_in, services, project, send, wait, monkeypatch
):
    asked = []
    # The minute's look begins with the trainer, and might take the webhook in before the watch does.
    monkeypatch.setattr(services.trainer, "run_maintenance", list)
    stop = services.jobs.start_trainer_thread()

    def full():
        asked.append(True)
        raise OSError(28, "No space left on device")

    look = services.trainer.waiting
    monkeypatch.setattr(services.trainer, "waiting", full)
    send(stand_in.annotate(1, project[1]))
    wait(lambda: len(asked) > 0)
    monkeypatch.setattr(services.trainer, "waiting", look)
    wait(lambda: services.store.latest_round(1).n_labels == 1)
    stop()
