"""A full disk: nothing pretends to be stored, and what was missed is found once there is space."""

from __future__ import annotations

import pytest
from sqlalchemy.event import listen, remove

from everylabel.backend.app import create_app
from everylabel.backend.page_token import HEADER, PageToken


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
    assert "not stored" in answer.status
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
    # What is overdue is asked for with the trainer's start, and might take the webhook in before the watch does.
    monkeypatch.setattr(services.trainer, "overdue", list)
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


@pytest.fixture
def read_only(services):
    """Lets SQLite take nothing, as on a disk that was mounted to be read alone, until it is called."""

    def refuse(connection, *_):
        connection.execute("PRAGMA query_only = 1")

    def as_before(connection, *_):
        connection.execute("PRAGMA query_only = 0")

    engine = services.store._engine
    listen(engine, "checkout", refuse)

    def writable():
        remove(engine, "checkout", refuse)
        listen(engine, "checkout", as_before)

    return writable


def test_people_who_label_pages_are_told_of_a_disk_that_can_only_be_read_and_lose_nothing(
    services, stand_in, teach, request
):
    stand_in.people["anns-token"] = 7
    teach(16)
    client = create_app(services).test_client()
    headers = {HEADER: PageToken(services.settings.model_dir).value}

    def post(path, body):
        return client.post(f"/projects/1/label/{path}", json=body, headers=headers)

    assert post("sign-in", {"token": "anns-token"}).status_code == 200
    page = post("pages", {"kind": "class"}).json["page"]
    confirm = f"pages/{page['id']}/confirm"
    labels = {"labels": {str(page["crops"][0]["task"]): "0"}, "seconds": 9}
    writable = request.getfixturevalue("read_only")
    for path, body in (
        ("sign-in", {"token": "anns-token"}),
        ("pages", {"kind": "class"}),
        (confirm, labels),
        ("undo", {}),
        ("give-back", {"pages": [page["id"]]}),
        ("sign-out", {}),
    ):
        answer = post(path, body)
        assert answer.status_code == 503, path
        assert "database" in answer.json["error"], path
    assert client.get("/projects/1/label/state").json == {"waiting": 0, "trouble": []}
    assert client.get("/projects/1").status_code == 200
    assert client.post("/projects/1/classify", json={"images": []}).status_code == 200

    writable()
    assert post(confirm, labels).json["confirmed"] == 1
