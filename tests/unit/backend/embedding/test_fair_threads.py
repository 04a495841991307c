"""Turns of projects: in order, one of each at a time, and nobody waits for those that only wait."""

from __future__ import annotations

import threading

import pytest

from everylabel.backend.embedding import fair_threads
from everylabel.backend.embedding.fair_threads import AT_ONCE, BUSY_AT_ONCE, KEPT_FREE, FairThreads


@pytest.fixture
def make(monkeypatch):
    monkeypatch.setattr(fair_threads, "BUSY_SECONDS", 0.05)
    made = []

    def threads(work, **options):
        made.append(FairThreads("test", work, **options))
        return made[-1]

    yield threads
    for one in made:
        one.stop(5)


def test_projects_take_turns_until_each_has_had_enough(make, monkeypatch):
    # One turn at a time, however busy the machine is: so there is one order alone.
    monkeypatch.setattr(fair_threads, "BUSY_AT_ONCE", 1)
    monkeypatch.setattr(fair_threads, "BUSY_SECONDS", 60.0)
    turns, begin = [], threading.Event()

    def work(project_id):
        begin.wait(10)
        turns.append(project_id)
        return 0.0 if turns.count(project_id) < 20 else None

    threads = make(work)
    for project_id in (1, 2, 3):
        threads.request(project_id)
    begin.set()
    assert threads.wait_until_idle(20)
    assert turns == [1, 2, 3] * 20, "nobody has a second turn before another has the first"


def test_a_project_has_one_turn_at_a_time_and_what_is_asked_meanwhile_another(make):
    entered, release, turns, inside = threading.Event(), threading.Event(), [], []

    def work(project_id):
        inside.append(project_id)
        assert len(inside) == 1
        turns.append(project_id)
        entered.set()
        release.wait(10)
        inside.remove(project_id)

    threads = make(work)
    threads.request(1)
    assert entered.wait(10)
    for _ in range(5):
        threads.request(1)
    assert threads.is_active(1)
    release.set()
    assert threads.wait_until_idle(10)
    assert turns == [1, 1]
    assert not threads.is_active(1)


def test_projects_that_wait_leave_the_others_their_turn(make):
    release, done = threading.Event(), threading.Event()
    waits = range(100, 100 + BUSY_AT_ONCE + 3)
    blocked = []

    def work(project_id):
        if project_id in waits:
            blocked.append(project_id)
            release.wait(20)
        else:
            done.set()

    threads = make(work)
    for project_id in waits:
        threads.request(project_id)
    threads.request(1)
    assert done.wait(10), "it came while the others were still blocked"
    assert len(blocked) > BUSY_AT_ONCE
    assert not release.is_set()
    release.set()


def test_however_many_projects_were_slow_before_others_find_a_place(make):
    release, done = threading.Event(), threading.Event()
    slow = range(100, 100 + 2 * AT_ONCE)
    seen = set()

    def work(project_id):
        if project_id not in slow:
            done.set()
            return None
        if project_id not in seen:
            seen.add(project_id)
            threading.Event().wait(0.1)
            return 0.0
        release.wait(20)
        return None

    threads = make(work)
    for project_id in slow:
        threads.request(project_id)
    known = threading.Event()
    for _ in range(1000):
        if len(seen) == len(slow) and len(threads._running) == AT_ONCE - KEPT_FREE:
            break
        known.wait(0.01)
    threads.request(1)
    assert done.wait(10)
    release.set()


def test_a_turn_that_fails_ends_nothing_else(make):
    ended, done = [], threading.Event()

    def work(project_id):
        if project_id == 1:
            raise ValueError("nobody expected this")
        done.set()

    threads = make(work, ended=ended.append)
    threads.request(1)
    assert threads.wait_until_idle(10)
    threads.request(2)
    assert done.wait(10)
    assert threads.wait_until_idle(10)
    assert ended == [1, 2]
