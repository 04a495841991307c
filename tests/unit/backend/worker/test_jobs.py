"""The queue between a webhook and a round: durable, in JSON, shared, and worked by whoever trains."""

from __future__ import annotations

import json
import pickle
import threading
import time

import pytest

from everylabel.backend.store import StorageError
from everylabel.backend.worker.jobs import Jobs


class Recorder:
    """Notes what it is asked to do."""

    def __init__(self):
        self.done = []
        self.to_tend = []
        self.with_webhooks = []
        self.release = threading.Event()
        self.release.set()
        self.fails_for = 0
        self.cannot_learn = set()

    def learn(self, project_id):
        self.release.wait(10)
        if project_id == self.fails_for:
            raise RuntimeError("training failed")
        self.done.append(("learn", project_id))
        return project_id not in self.cannot_learn

    def waiting(self):
        return [p for p in self.with_webhooks if p in self.cannot_learn or ("learn", p) not in self.done]

    def embed(self, project_id, task_ids):
        self.done.append(("embed", project_id, list(task_ids)))

    def tend(self):
        return self.to_tend

    def stop(self):
        pass


@pytest.fixture
def work():
    return Recorder()


@pytest.fixture(params=["sqlite", "redis"])
def make_jobs(request, tmp_path):
    """Makes queues that share their jobs, as processes on one machine or on several do."""
    url = "" if request.param == "sqlite" else request.getfixturevalue("redis_server").empty()
    return lambda work: Jobs(tmp_path / "jobs.db", lambda: work, url)


@pytest.fixture
def in_redis(redis_server, tmp_path):
    """Makes queues of several machines."""
    url = redis_server.empty()
    return lambda work: Jobs(tmp_path / "unused.db", lambda: work, url)


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
    work.to_tend = [3, 4]
    trainer(jobs)
    wait(lambda: set(work.done) == {("learn", 3), ("learn", 4)})


def test_nothing_kept_is_a_pickle(jobs, work, make_jobs):
    jobs.learn(7)
    jobs.embed(7, [1, 2])
    again = make_jobs(work)
    stored = again._huey.storage.enqueued_items()
    assert len(stored) == 2
    assert all(isinstance(json.loads(item), list) for item in stored)


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


def test_a_pickle_put_into_the_queue_is_not_opened(jobs, work, trainer, wait):
    jobs._huey.storage.enqueue(pickle.dumps(Trap()))
    jobs.learn(7)
    trainer(jobs)
    wait(lambda: ("learn", 7) in work.done)
    assert not Trap.sprung


def test_stopping_waits_for_the_job_at_hand(jobs, work):
    work.release.clear()
    stop = jobs.start_trainer_thread()
    jobs.learn(7)
    threading.Timer(0.2, work.release.set).start()
    limit = time.monotonic() + 5
    while jobs.waiting() and time.monotonic() < limit:
        time.sleep(0.01)
    stop()
    assert work.done == [("learn", 7)]


def test_a_project_one_trainer_asks_for_and_another_does_is_asked_for_again(in_redis, trainer, wait):
    given, learned, looks = [0], [0], []

    def learn(project_id):
        looks.append(project_id)
        learned[0] = given[0]
        return True

    asks, does = Recorder(), Recorder()
    asks.waiting = lambda: [5] if learned[0] < given[0] else []
    does.learn = learn
    trainer(in_redis(does))
    asking = in_redis(asks)._start_watching()
    for number in range(1, 11):
        given[0] = number
        wait(lambda number=number: learned[0] == number)
    asking.set()
    assert 10 <= len(looks) < 20, (
        "who looked just before it was done asks once more, in vain; but not every time"
    )


def test_what_a_killed_trainer_had_taken_another_does(in_redis, work, trainer, wait, monkeypatch):
    monkeypatch.setattr("everylabel.backend.worker.backoff.CLAIM_SECONDS", 0.5)
    killed = in_redis(work)
    assert killed._attempts.begin(5)
    killed._ask(5)
    assert killed._huey.dequeue() is not None  # and is killed before it does it
    work.with_webhooks = [5]
    trainer(in_redis(work))
    wait(lambda: work.done == [("learn", 5)])


def test_a_redis_that_starts_anew_and_empty_loses_no_work(redis_server, in_redis, work, trainer, wait):
    jobs = in_redis(work)
    trainer(jobs)
    redis_server.stop()
    work.with_webhooks = [5]
    with pytest.raises(StorageError, match="Redis"):
        jobs.embed(5, [1])
    redis_server.start()
    wait(lambda: work.done == [("learn", 5)])


def test_one_trainer_of_many_cleans_up(in_redis, work):
    first, second = in_redis(work), in_redis(work)
    assert [first._attempts.may_tend(), second._attempts.may_tend()] == [True, False]
