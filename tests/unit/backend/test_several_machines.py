"""Two backend machines on one PostgreSQL and one Redis serve one Label Studio; one is killed, and nothing is lost.

A machine is a whole `everylabel serve`; they share MODEL_DIR, the database and the queue, and nothing else.
"""

import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import httpx
import numpy as np
import pytest
from sqlalchemy import text

from everylabel.backend.app import create_app
from everylabel.backend.store.database import make_engine
from tests.everylabel_process import EveryLabel, wait_until
from tests.stand_in_label_studio import TOKEN

pytestmark = pytest.mark.extended

LABELS_AFTER_THE_KILL = 8


@pytest.fixture
def machines(stand_in, postgres, redis_server, tmp_path):
    shared = {
        "database_url": postgres.empty(),
        "redis_url": redis_server.empty(),
        "model_dir": tmp_path / "shared",
    }
    both = []
    for name in ("first", "second"):
        home = tmp_path / name
        home.mkdir()
        both.append(EveryLabel(stand_in.url, TOKEN, home, **shared))
    with ThreadPoolExecutor(2) as starting:
        list(starting.map(EveryLabel.start, both))
    yield both
    for machine in both:
        machine.stop()


@pytest.fixture
def deliver(machines):
    """Sends a webhook to the machines by turns, and to the next where one does not answer: a load balancer."""
    turn = count()

    def send(body):
        start = next(turn)
        for number in range(len(machines)):
            address = machines[(start + number) % len(machines)].settings.public_url
            try:
                if httpx.post(f"{address}/webhook", json=body, timeout=10).status_code == httpx.codes.CREATED:
                    return
            except httpx.TransportError:
                continue
        raise AssertionError("no machine has taken the webhook")

    return send


@pytest.fixture
def holders(machines):
    """Asks PostgreSQL which processes hold a lock of a project at the moment."""
    engine = make_engine(machines[0].settings.store_url, isolation_level="AUTOCOMMIT")
    query = text(
        "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND application_name LIKE 'everylabel %'"
    )
    with engine.connect() as connection:
        yield lambda: {int(name.split()[-1]) for name in connection.scalars(query)}
    engine.dispose()


def killed_at_work(machine, holders):
    """Kill a machine in the middle of its round; False if the other machine has run this one."""
    trainer = machine.trainer_pid
    while machine.services.store.events(1):
        if trainer in holders():
            os.kill(trainer, signal.SIGSTOP)
            if trainer in holders():
                machine.kill()
                return True
            os.kill(trainer, signal.SIGCONT)
        time.sleep(0.002)
    return False


def test_one_of_two_machines_dies_in_the_middle_of_a_round_and_nothing_is_lost(
    stand_in, machines, deliver, holders, digit_crops, encoder
):
    images, truth = zip(*digit_crops[:60], strict=True)
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *images[:40])
    first, second = machines
    second.connect(1)
    ids += stand_in.add_tasks(1, *images[40:])  # for the trainers to embed
    labels = dict(zip(ids, truth, strict=True))
    deliver(stand_in.webhook("TASKS_CREATED", tasks=[stand_in.plain(id_) for id_ in ids[40:]]))

    def label_one():
        task = wait_until(lambda: stand_in.queue(1), "the queue is empty", 90)[0]
        deliver(stand_in.annotate(task, labels[task]))

    label_one()
    while not killed_at_work(first, holders):
        assert len(stand_in.annotated()) < 40, "the first machine never had a round to run"
        label_one()
    for _ in range(LABELS_AFTER_THE_KILL):
        label_one()

    given = {id_: labels[id_] for id_ in stand_in.annotated()}
    wait_until(lambda: not second.services.store.events(1), "webhooks wait", 90)
    latest = second.wait_for_round(1, labels=len(given))
    assert second.labels(1) == given
    assert stand_in.queue(1), "the label stream goes on"
    served = {*latest.queue, *latest.pre_annotated, *latest.reserve, *latest.suspected}
    assert set(stand_in.queue(1)) <= served

    shown = Counter((p["task"], p["model_version"]) for p in stand_in.predictions)
    assert max(shown.values()) == 1, "a round was published twice"
    wait_until(lambda: second.services.store.count_tasks(1)["embedded"] == len(ids), "crops are missing", 90)
    rows = {task.id: task.embedding_row for task in second.services.store.tasks(1)}
    assert len({*rows.values()} - {None}) == len(ids), "every crop has a row of its own"
    pictures = [second.services.reader.read(image, id_) for id_, image in zip(ids, images, strict=True)]
    expected = encoder.encode(np.stack([encoder.prepare(picture) for picture in pictures]))
    assert (second.services.embeddings.read(1)[[rows[id_] for id_ in ids]] == expected).all()


def test_a_database_that_restarts_costs_time_and_no_label(
    stand_in, make_services, postgres, redis_server, digit_crops, wait
):
    services = make_services(database_url=postgres.empty(), redis_url=redis_server.empty())
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops[:12]))
    services.store.save_project(1, connected=True)
    services.loop.catch_up(1)
    client = create_app(services).test_client()
    stop = services.jobs.start_trainer_thread()
    try:
        postgres.stop()
        refused = client.post("/webhook", json=stand_in.annotate(ids[0], digit_crops[0][1]))
        assert refused.status_code == 503
        time.sleep(0.5)  # the trainer looks, and finds no database
        postgres.start()
        assert client.post("/webhook", json=stand_in.annotate(ids[1], digit_crops[1][1])).status_code == 201
        wait(lambda: services.store.latest_round(1).n_labels == 1)
        services.loop.catch_up(1, compare=True)  # as it does by itself every five minutes
        assert {a.task_id for a in services.store.annotations(1)} == {*ids[:2]}
    finally:
        stop()
