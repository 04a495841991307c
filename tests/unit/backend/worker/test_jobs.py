"""What lies between a webhook and a round: durable, in JSON, shared, and worked by whoever trains."""

from __future__ import annotations

import json
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from everylabel.backend.store import StorageError
from everylabel.backend.worker import watch
from everylabel.backend.worker.jobs import Jobs


class Recorder:
    """Notes what it is asked to do."""

    def __init__(self):
        self.done = []
        self.to_sync = []
        self.to_sync_alone = set()
        self.with_webhooks = []
        self.release = threading.Event()
        self.release.set()
        self.fails_for = 0
        self.cleans_for_long = False
        self.cannot_learn = set()

    def learn(self, project_id):
        self.release.wait(10)
        if project_id == self.fails_for:
            raise RuntimeError("training failed")
        self.done.append(("learn", project_id))
        return project_id not in self.cannot_learn

    def waiting(self):
        return [p for p in self.with_webhooks if p in self.cannot_learn or ("learn", p) not in self.done]

    def has_changed(self):
        return bool(self.waiting())

    def only_to_sync(self):
        return self.to_sync_alone

    def embed(self, project_id, task_ids):
        self.done.append(("embed", project_id, list(task_ids)))

    def overdue(self):
        return self.to_sync

    def run_maintenance(self, is_stopping):
        while self.cleans_for_long and not is_stopping():
            time.sleep(0.01)

    def stop(self):
        pass


@pytest.fixture
def work():
    return Recorder()


@pytest.fixture(params=["sqlite", "redis"])
def make_jobs(request, tmp_path):
    """Makes queues that share their jobs, as processes on one machine or on several do."""
    url = "" if request.param == "sqlite" else request.getfixturevalue("redis_server").empty()
    return lambda work: Jobs(f"sqlite:///{tmp_path / 'jobs.db'}", lambda: work, url)


@pytest.fixture
def in_redis(redis_server, tmp_path):
    """Makes queues of several machines."""
    url = redis_server.empty()
    return lambda work: Jobs(f"sqlite:///{tmp_path / 'jobs.db'}", lambda: work, url)


@pytest.fixture
def jobs(make_jobs, work):
    return make_jobs(work)


@pytest.fixture
def trainer():
    stops = []
    yield lambda jobs: stops.append(jobs.start_trainer_thread())
    for stop in stops:
        stop()


def test_a_job_is_asked_for_at_once_and_done_by_the_trainer(jobs, work, trainer, wait):
    jobs.learn(7)
    jobs.embed(7, (1, 2))
    assert jobs.waiting() == 2
    assert work.done == []
    trainer(jobs)
    wait(lambda: len(work.done) == 2)
    assert ("embed", 7, [1, 2]) in work.done
    assert ("learn", 7) in work.done


def test_jobs_survive_a_restart(make_jobs, work, trainer, wait):
    make_jobs(work).learn(7)
    trainer(make_jobs(work))
    wait(lambda: work.done == [("learn", 7)])


def test_embedding_for_predict_does_not_wait_behind_a_round(jobs, work, trainer, wait):
    work.release.clear()
    jobs.learn(7)
    trainer(jobs)
    wait(lambda: jobs.waiting() == 0)
    jobs.embed(7, [1])
    wait(lambda: ("embed", 7, [1]) in work.done)
    work.release.set()


def test_a_job_that_fails_does_not_stop_the_trainer(jobs, work, trainer, wait):
    work.fails_for = 7
    trainer(jobs)
    jobs.learn(7)
    jobs.learn(8)
    wait(lambda: ("learn", 8) in work.done)


def test_projects_that_need_a_look_get_one_when_the_trainer_starts(jobs, work, trainer, wait):
    work.to_sync = [3, 4]
    trainer(jobs)
    wait(lambda: set(work.done) == {("learn", 3), ("learn", 4)})


def test_no_job_waits_for_the_maintenance_that_begins_with_the_trainer(jobs, work, trainer, wait):
    work.cleans_for_long = True
    work.to_sync = [3]
    trainer(jobs)
    jobs.learn(4)
    wait(lambda: set(work.done) == {("learn", 3), ("learn", 4)})


def test_nothing_kept_is_a_pickle(jobs, tmp_path):
    jobs.learn(7)
    jobs.embed(7, [1, 2])
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as database:
        stored = database.execute("SELECT project_id, task_ids FROM requests ORDER BY id").fetchall()
    assert [(project_id, json.loads(task_ids)) for project_id, task_ids in stored] == [(7, []), (7, [1, 2])]


def test_a_project_with_webhooks_is_looked_at_without_being_asked_for(jobs, work, trainer, wait):
    trainer(jobs)
    work.with_webhooks = [5]
    wait(lambda: ("learn", 5) in work.done)
    time.sleep(0.2)
    assert work.done == [("learn", 5)], "looked at once"


def test_a_project_that_cannot_be_learned_is_tried_less_and_less_often(jobs, work, trainer, wait):
    work.cannot_learn, work.with_webhooks = {5}, [5]
    trainer(jobs)
    wait(lambda: work.done)
    time.sleep(1.0)
    assert 2 <= len(work.done) <= 5


class Trap:
    sprung = False

    def __reduce__(self):
        return (Trap.spring, ())

    @staticmethod
    def spring():
        Trap.sprung = True


@pytest.mark.parametrize("damage", [pickle.dumps(Trap()), "[1, 2", "7", '["x"]'])
def test_what_is_no_request_is_dropped_and_a_pickle_never_opened(jobs, work, trainer, wait, tmp_path, damage):
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as database, database:
        database.execute("INSERT INTO requests (project_id, task_ids) VALUES (6, ?)", (damage,))
    jobs.learn(7)
    trainer(jobs)
    wait(lambda: ("learn", 7) in work.done)
    wait(lambda: jobs.waiting() == 0)
    assert work.done == [("learn", 7)]
    assert not Trap.sprung


def test_stopping_waits_for_the_job_at_hand(jobs, work):
    work.release.clear()
    stop = jobs.start_trainer_thread()
    jobs.learn(7)
    threading.Timer(0.2, work.release.set).start()
    limit = time.monotonic() + 60
    while jobs.waiting() and time.monotonic() < limit:
        time.sleep(0.01)
    stop()
    assert work.done == [("learn", 7)]


def test_a_project_that_always_has_webhooks_keeps_no_other_waiting(jobs, work, trainer, wait):
    work.waiting = lambda: [1, 2, 3]  # two are done at a time
    trainer(jobs)
    wait(lambda: work.done.count(("learn", 3)) >= 3)
    times = [work.done.count(("learn", project)) for project in (1, 2, 3)]
    assert max(times) <= 3 * min(times), times


def test_a_label_waits_for_no_sync_of_all_projects(jobs, work, trainer, wait):
    """After a restart all projects are compared with Label Studio."""
    work.to_sync_alone = set(range(1, 20))
    work.to_sync = list(range(20, 40))
    work.with_webhooks = [*range(1, 20), 100]
    trainer(jobs)
    wait(lambda: len(work.done) == 40)
    assert ("learn", 100) in work.done[:4]


def test_a_sync_is_not_put_off_for_ever_by_labels(jobs, work, trainer, wait):
    work.to_sync_alone = {9}
    work.waiting = lambda: [1, 2, 3, 4, 5, 6, 9]
    trainer(jobs)
    wait(lambda: work.done.count(("learn", 9)) >= 3)
    # The third was begun after it, on another thread.
    wait(lambda: all(("learn", project) in work.done for project in (1, 2, 3)))


def test_a_label_given_while_its_project_is_learned_gets_its_round_afterwards(jobs, work, trainer, wait):
    work.release.clear()
    trainer(jobs)
    jobs.learn(5)
    wait(lambda: jobs.waiting() == 0)
    jobs.learn(5)
    time.sleep(0.2)
    assert jobs.waiting() == 1, "not at the same time"
    work.release.set()
    wait(lambda: work.done == [("learn", 5), ("learn", 5)])


def test_a_project_that_has_to_wait_does_not_keep_the_trainer_looking(jobs, work, trainer, wait, monkeypatch):
    monkeypatch.setattr(watch, "LINE_SECONDS", 100.0)
    monkeypatch.setattr(watch, "LOOK_ANYWAY_SECONDS", 100.0)
    asked = []
    work.with_webhooks, work.cannot_learn = [5], {5}
    work.has_changed = lambda: bool(asked.append("changed"))
    wanted = work.waiting
    work.waiting = lambda: asked.append("waiting") or wanted()
    trainer(jobs)
    wait(lambda: work.done == [("learn", 5)])
    began = len(asked)
    wait(lambda: asked[began:].count("changed") >= 30)
    assert asked[began:].count("waiting") <= 2, "once as the job ends, and perhaps once before"


RUN_TRAINER = """
import sys, time
from everylabel.backend.worker.jobs import Jobs

class Work:
    def waiting(self):
        return [5]

    def overdue(self):
        return []

    def has_changed(self):
        return True

    def only_to_sync(self):
        return ()

    def run_maintenance(self, is_stopping):
        pass

    def learn(self, project_id):
        print("began", flush=True)
        time.sleep(0.5)
        print("done", flush=True)
        return True

    def stop(self):
        print("stopped", flush=True)

Jobs(sys.argv[1], Work).run_trainer()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_trainer_process_that_is_asked_to_stop_finishes_its_job(tmp_path, number):
    command = [sys.executable, "-c", RUN_TRAINER, f"sqlite:///{tmp_path / 'jobs.db'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout.readline() == "began\n"
        trainer.send_signal(number)
        told = trainer.stdout.read().split()
    assert trainer.returncode == 0
    assert told.count("done") == told.count("began") + 1
    assert told[-1] == "stopped"
    assert len(told) <= 3, "nothing is begun any more"


def test_two_machines_share_the_projects_that_wait(in_redis, trainer, wait):
    given, learned, looks = [0], [0], []

    def learn(project_id):
        looks.append(project_id)
        learned[0] = given[0]
        return True

    first, second = Recorder(), Recorder()
    for machine in (first, second):
        machine.waiting = lambda: [5] if learned[0] < given[0] else []
        machine.learn = learn
        trainer(in_redis(machine))
    for number in range(1, 11):
        given[0] = number
        wait(lambda number=number: learned[0] == number)
    assert 10 <= len(looks) < 20, (
        "who looked just before it was done does it once more, in vain; but not every time"
    )


def test_crops_that_predict_waits_for_are_embedded_by_one_machine(in_redis, trainer, wait):
    first, second = Recorder(), Recorder()
    for machine in (first, second):
        trainer(in_redis(machine))
    web_server = in_redis(Recorder())
    for task in range(1, 21):
        web_server.embed(5, [task])
    wait(lambda: len(first.done + second.done) >= 20)
    time.sleep(0.1)
    assert sorted(first.done + second.done) == [("embed", 5, [task]) for task in range(1, 21)]


def test_what_a_killed_trainer_had_taken_another_does(in_redis, work, trainer, wait, monkeypatch):
    monkeypatch.setattr("everylabel.backend.worker.backoff.CLAIM_SECONDS", 0.5)
    killed = in_redis(work)
    assert killed._claims.take(5)  # and is killed before it does it
    work.with_webhooks = [5]
    trainer(in_redis(work))
    time.sleep(0.2)
    assert work.done == [], "another machine seems to be at it"
    wait(lambda: work.done == [("learn", 5)])


def test_a_redis_that_starts_anew_and_empty_loses_no_work(redis_server, in_redis, work, trainer, wait):
    jobs = in_redis(work)
    trainer(jobs)
    redis_server.stop()
    with pytest.raises(StorageError, match="Redis"):
        jobs.check_claims()
    jobs.embed(5, [1])
    wait(lambda: work.done == [("embed", 5, [1])])
    work.with_webhooks = [5]
    time.sleep(0.2)
    assert ("learn", 5) not in work.done, "nobody knows whether another machine is at it"
    redis_server.start()
    wait(lambda: ("learn", 5) in work.done)
    jobs.check_claims()


def test_one_trainer_of_many_cleans_up(in_redis, work):
    first, second = in_redis(work), in_redis(work)
    assert [first._claims.may_run_maintenance(), second._claims.may_run_maintenance()] == [True, False]
