"""A figure from a busy machine is seen to be one."""

from __future__ import annotations

import os

from everylabel.scripts.benchmarks import machine as machines
from everylabel.scripts.benchmarks.machine import Watch, sentence


def test_the_machine_is_said_with_what_else_it_did():
    watch = Watch()
    deadline = watch._began + 0.3
    while machines.time.monotonic() < deadline:
        pass
    found = watch.machine()
    assert found.cores == machines.usable_cores() >= 1
    assert found.processor
    assert found.memory_bytes > 2**28
    assert found.seconds >= 0.3
    if machines.STAT.exists():
        assert 0 <= found.others <= (os.cpu_count() or 1) + 0.5
    said = sentence(vars(found))
    assert found.processor in said
    assert "load average" in said


def test_work_of_this_process_is_not_taken_for_that_of_others(monkeypatch):
    busy = iter([(100.0, 5.0), (130.0, 6.0)])
    own = iter([10.0, 25.0])
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(machines, "_processor_seconds", lambda: next(busy))
    monkeypatch.setattr(machines, "_own_seconds", lambda: next(own))
    monkeypatch.setattr(machines.time, "monotonic", lambda: next(clock))
    found = Watch().machine()
    assert (found.others, found.stolen, found.seconds) == (1.5, 0.1, 10.0)
