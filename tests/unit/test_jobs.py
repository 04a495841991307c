"""The queue between a webhook and a round: durable, in JSON, shared, and worked by whoever trains."""

from __future__ import annotations

import json
import pickle
import threading
import time

import pytest

from backend.jobs import Jobs


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


@pytest.fixture
def work():
    return Recorder()


@pytest.fixture
def jobs(tmp_path, work):
    return Jobs(tmp_path / "jobs.db", lambda: work)


@pytest.fixture
def trainer(jobs):
    stops = []
    yield lambda of=jobs: stops.append(of.start_trainer_thread())
    for stop in stops:
        stop()


def test_a_job_is_asked_for_at_once_and_done_by_the_trainer(jobs, work, trainer, wait):
    jobs.learn(7)
    jobs.embed(7, (1, 2))
    assert jobs.waiting() == 2
    assert work.done == []
    trainer()
    wait(lambda: len(work.done) == 2)
    assert ("embed", 7, [1, 2]) in work.done
    assert ("learn", 7) in work.done


def test_jobs_survive_a_restart(tmp_path, work, trainer, wait):
    Jobs(tmp_path / "jobs.db", lambda: work).learn(7)
    trainer(Jobs(tmp_path / "jobs.db", lambda: work))
    wait(lambda: work.done == [("learn", 7)])


def test_embedding_for_predict_does_not_wait_behind_a_round(jobs, work, trainer, wait):
    work.release.clear()
    jobs.learn(7)
    trainer()
    wait(lambda: jobs.waiting() == 0)
    jobs.embed(7, [1])
    wait(lambda: ("embed", 7, [1]) in work.done)
    work.release.set()


def test_a_job_that_fails_does_not_stop_the_trainer(jobs, work, trainer, wait):
    work.fails_for = 7
    trainer()
    jobs.learn(7)
    jobs.learn(8)
    wait(lambda: ("learn", 8) in work.done)


def test_projects_that_need_a_look_get_one_when_the_trainer_starts(jobs, work, trainer, wait):
    work.to_tend = [3, 4]
    trainer()
    wait(lambda: set(work.done) == {("learn", 3), ("learn", 4)})


def test_nothing_on_disk_is_a_pickle(jobs, work, tmp_path):
    jobs.learn(7)
    jobs.embed(7, [1, 2])
    again = Jobs(tmp_path / "jobs.db", lambda: work)
    stored = again._huey.storage.enqueued_items()
    assert len(stored) == 2
    assert all(isinstance(json.loads(item), list) for item in stored)


def test_a_project_with_webhooks_is_looked_at_without_being_asked_for(work, trainer, wait):
    trainer()
    work.with_webhooks = [5]
    wait(lambda: ("learn", 5) in work.done)
    time.sleep(0.2)
    assert work.done == [("learn", 5)], "looked at once"


def test_a_project_that_cannot_be_learned_is_tried_less_and_less_often(work, trainer):
    work.cannot_learn, work.with_webhooks = {5}, [5]
    trainer()
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
    trainer()
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
