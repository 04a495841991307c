"""One project never stops another: a host that is slow holds up nobody's round, not even those of its own project."""

from __future__ import annotations

import base64
import http.server
import threading
from dataclasses import replace

import pytest
from filelock import Timeout

from everylabel.backend.embedding.pool_growth import ENOUGH_TO_START
from everylabel.backend.store import Task


class SlowHost:
    """A host of images on loopback that answers `/slow/...` only once it is released, and anything else at once."""

    def __init__(self, content):
        self.release, self.asked = threading.Event(), threading.Event()
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                sent = 0
                if self.path.startswith("/slow"):
                    host.asked.set()
                    # A byte a second: without any the reader gives up after 15 seconds, and after 60 in any case.
                    while not host.release.wait(1) and sent < 50:
                        self.wfile.write(content[sent : sent + 1])
                        sent += 1
                self.wfile.write(content[sent:])

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self.release.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def host(digit_crops):
    host = SlowHost(base64.b64decode(digit_crops[0][0].partition(",")[2]))
    yield host
    host.close()


@pytest.fixture
def services(make_services):
    return make_services(allow_private_addresses=True)


@pytest.fixture
def connect(stand_in, services, digit_crops):
    """Connects a project with 12 embedded crops."""

    def project(id_):
        stand_in.add_project(id_)
        ids = stand_in.add_tasks(id_, *(image for image, _ in digit_crops[:12]))
        services.store.save_project(id_, connected=True)
        services.loop.catch_up(id_)
        return dict(zip(ids, (label for _, label in digit_crops[:12]), strict=True))

    return project


@pytest.fixture
def add_slow(stand_in, send, host):
    """Imports tasks whose images hang."""

    def add(project_id, count=6):
        new = stand_in.add_tasks(project_id, *(f"{host.url}/slow/{project_id}/{i}.png" for i in range(count)))
        body = stand_in.webhook("TASKS_CREATED", tasks=[stand_in.plain(id_) for id_ in new])
        send({**body, "project": {"id": project_id}})
        return new

    return add


def _labels(services, project_id):
    latest = services.store.latest_round(project_id)
    return 0 if latest is None else latest.n_labels


def test_rounds_of_all_projects_come_while_the_hosts_of_two_hang(
    stand_in, services, connect, add_slow, host, send, trainer, wait
):
    projects = {id_: connect(id_) for id_ in (1, 2, 3)}
    new = {id_: add_slow(id_) for id_ in (1, 2)}
    assert host.asked.wait(15)
    for id_ in (1, 2):  # as /predict does, for crops that hang too
        services.jobs.embed(id_, new[id_])
    for number in (1, 2):
        for truth in projects.values():
            task = list(truth)[number]
            send(stand_in.annotate(task, truth[task]))
        wait(lambda number=number: all(_labels(services, id_) == number for id_ in projects))
    assert not host.release.is_set(), "the hosts hung all the time"
    assert services.store.count_tasks(1)["missing"] == services.store.count_tasks(2)["missing"] == 6

    host.release.set()
    wait(lambda: all(services.store.count_tasks(id_)["embedded"] == 18 for id_ in (1, 2)))
    wait(lambda: all(len(services.store.rounds(id_)) == 4 for id_ in (1, 2)))
    assert len(services.store.rounds(3)) == 3, "nothing new came into the third"


def test_crops_that_predict_waits_for_come_while_the_pool_hangs(
    stand_in, services, connect, add_slow, host, send, trainer, wait
):
    connect(1)
    add_slow(1)
    assert host.asked.wait(15)
    (quick,) = stand_in.add_tasks(1, f"{host.url}/quick.png")
    services.store.save_tasks(1, [Task(quick, f"{host.url}/quick.png")])
    services.jobs.embed(1, [quick])
    wait(lambda: services.store.tasks(1, [quick])[0].embedding_row is not None)
    assert not host.release.is_set()


def test_while_a_command_embeds_a_pool_the_trainer_runs_its_rounds(
    stand_in, services, make_services, connect, host, send, trainer, wait
):
    truth = connect(1)
    stand_in.add_tasks(1, *(f"{host.url}/slow/{i}.png" for i in range(6)))
    command = make_services(allow_private_addresses=True)
    foreground = threading.Thread(
        target=command.loop.catch_up, args=(1,), kwargs={"compare": True, "force": True}
    )
    foreground.start()
    assert host.asked.wait(15)
    for number, task in enumerate(list(truth)[:3], start=1):
        send(stand_in.annotate(task, truth[task]))
        wait(lambda number=number: _labels(services, 1) == number)
    assert not host.release.is_set()
    host.release.set()
    foreground.join(30)
    assert services.store.count_tasks(1)["embedded"] == 18
    assert len(services.embeddings.read(1)) == 18, "each was embedded once"
    assert services.store.latest_round(1).published_at is not None


def test_what_was_missing_when_the_trainer_was_killed_is_embedded_by_the_next(
    services, make_services, connect, add_slow, host, wait, monkeypatch
):
    connect(1)
    host.release.set()
    new = add_slow(1)
    monkeypatch.setattr(
        services.embedding_lanes, "request", lambda project_id: None
    )  # killed before it began
    services.trainer.learn(1)
    assert services.store.events(1) == [], "the webhook is processed"
    again = make_services(allow_private_addresses=True)
    stop = again.jobs.start_trainer_thread()
    try:
        wait(lambda: all(task.embedding_row is not None for task in again.store.tasks(1, new)))
    finally:
        stop()


def test_a_pool_that_is_being_embedded_gets_rounds_by_doubling(services, connect, monkeypatch):
    connect(1)
    monkeypatch.setattr(services.embedding_lanes, "is_active", lambda project_id: True)
    latest = services.store.latest_round(1)
    assert latest.embedded_until == 12
    asked = []
    for rows in (12, 13, 23, 24, 60):
        monkeypatch.setattr(services.store, "known_rows", lambda project_id, rows=rows: rows)
        asked.append(services.loop.has_grown_enough(1))
    assert asked == [False, False, False, True, True]
    monkeypatch.setattr(services.embedding_lanes, "is_active", lambda project_id: False)
    monkeypatch.setattr(services.store, "known_rows", lambda project_id: 13)
    assert services.loop.has_grown_enough(1)


def test_without_a_label_a_pool_that_goes_on_growing_gets_no_further_rounds(services, connect, monkeypatch):
    connect(1)
    latest = services.store.latest_round(1)
    monkeypatch.setattr(services.embedding_lanes, "is_active", lambda project_id: True)
    monkeypatch.setattr(services.store, "known_rows", lambda project_id: 20_000)

    def is_due(embedded, labels):
        held = replace(latest, embedded_until=embedded, n_labels=labels)
        monkeypatch.setattr(services.store, "latest_round", lambda project_id: held)
        return services.loop.has_grown_enough(1)

    assert is_due(ENOUGH_TO_START - 1, labels=0), "the first batch may be a better one"
    assert not is_due(ENOUGH_TO_START, labels=0), "it would be none"
    assert is_due(ENOUGH_TO_START, labels=1), "the model's predictions of the others are wanted"
    monkeypatch.setattr(services.embedding_lanes, "is_active", lambda project_id: False)
    assert is_due(ENOUGH_TO_START, labels=0), "the page shows the whole pool"


def test_an_encoder_that_fails_is_the_projects_problem_until_it_works(
    stand_in, services, connect, send, digit_crops, monkeypatch, wait
):
    connect(1)
    new = stand_in.add_tasks(1, digit_crops[30][0])
    send(stand_in.webhook("TASKS_CREATED", tasks=[stand_in.plain(id_) for id_ in new]))

    def fails(*args, **options):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(services.executor, "embed", fails)
        services.trainer.learn(1)
        wait(lambda: services.store.project(1).problem is not None)
        assert "MemoryError" in services.store.project(1).problem
        services.trainer.learn(1)
        assert "MemoryError" in services.store.project(1).problem, "a round that works does not hide it"
    assert services.embedding_lanes.wait_until_idle(30), "it is tried again by itself"
    assert services.store.project(1).problem is None
    assert services.store.count_tasks(1)["embedded"] == 13


def test_what_fails_for_predict_is_no_problem_any_more_once_it_works(
    stand_in, services, connect, digit_crops, monkeypatch, wait
):
    connect(1)
    (new,) = stand_in.add_tasks(1, digit_crops[30][0])
    services.store.save_tasks(1, [Task(new, digit_crops[30][0])])

    def fails(*args, **options):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(services.executor, "embed", fails)
        services.trainer.embed(1, [new])
        wait(lambda: services.store.project(1).problem is not None)
    assert services.embedding_lanes.wait_until_idle(30)
    assert services.store.project(1).problem is None
    assert services.store.tasks(1, [new])[0].embedding_row is not None


def test_a_project_deleted_while_its_pool_hangs_leaves_nothing_behind(
    stand_in, services, connect, add_slow, host, send
):
    connect(1)
    add_slow(1)
    services.trainer.learn(1)
    assert host.asked.wait(15)
    body = stand_in.webhook("PROJECT_DELETED")
    del stand_in.projects[1]
    send(body)
    services.trainer.learn(1)
    assert services.store.project(1) is None, "it does not wait for the host"
    assert not host.release.is_set()
    host.release.set()
    assert services.embedding_lanes.wait_until_idle(30)
    services.embedding_lanes.request(1)
    assert services.embedding_lanes.wait_until_idle(30)
    assert services.trainer.waiting() == []
    assert services.store.project(1) is None
    assert not services.files(1).folder.exists()


def test_a_dry_run_makes_the_trainer_run_no_round(
    services, make_services, connect, trainer, wait, monkeypatch
):
    connect(1)
    command = make_services(allow_private_addresses=True)
    looked = command.pool_embedding.missing
    held = []

    def missing(*args):
        with pytest.raises(Timeout), command.files(1).lock(timeout=0):
            pass
        held.append(True)
        return looked(*args)

    monkeypatch.setattr(command.pool_embedding, "missing", missing)
    assert command.loop.preview(1) is not None
    assert held, "with nothing to embed the trainer has no turn in between"
    wait(lambda: services.jobs.waiting() == 0 and not services.store.events(1))
    assert len(services.store.rounds(1)) == 1


def test_a_look_that_finds_nothing_new_asks_for_no_round_while_it_embeds(
    stand_in, services, make_services, connect, add_slow, host
):
    connect(1)
    add_slow(1)
    services.loop._bring_up_to_date(1, True, None)
    services.store.delete_events([event.id for event in services.store.events(1)])
    command = make_services(allow_private_addresses=True)
    looking = threading.Thread(target=command.loop.preview, args=(1,))
    looking.start()
    assert host.asked.wait(15)
    assert services.store.events(1) == []
    assert not host.release.is_set()
    host.release.set()
    looking.join(30)
    assert services.store.count_tasks(1)["embedded"] == 18


def test_what_a_command_finds_unreadable_stays_so_while_the_trainer_runs_rounds(
    stand_in, services, make_services, connect, host, send, trainer, wait
):
    truth = connect(1)
    stand_in.add_tasks(1, "data:image/png;base64,broken", *(f"{host.url}/slow/{i}.png" for i in range(600)))
    command = make_services(allow_private_addresses=True, download_threads=8)
    foreground = threading.Thread(target=command.loop.catch_up, args=(1,), kwargs={"compare": True})
    foreground.start()
    assert host.asked.wait(15)
    before = len(stand_in.calls)
    task = next(iter(truth))
    send(stand_in.annotate(task, truth[task]))
    wait(lambda: _labels(services, 1) == 1)
    assert ("GET", "/api/tasks/") not in stand_in.calls[before:], "and does not compare once more"
    services.store.save_project(1, reconciled_at=0.0)  # another comparison is due
    services.jobs.learn(1)
    wait(lambda: services.store.project(1).reconciled_at > 0)
    host.release.set()
    foreground.join(60)
    assert services.store.count_tasks(1)["unreadable"] == 1
