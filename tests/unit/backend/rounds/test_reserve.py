"""Behind its queue a round has a reserve, in a sensible order, with nothing pre-filled, and apart from the batch."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace

import numpy as np
import pytest

from everylabel.backend.rounds import reserve
from everylabel.backend.store import Annotation
from tests.unit.backend.rounds.test_runner import label


@pytest.fixture
def small(monkeypatch):
    """A reserve that leaves crops of the project over."""
    monkeypatch.setattr(reserve, "CROPS_AT_LEAST", 30)


def served(stand_in, record):
    """The crops of a round as Label Studio serves them."""
    unlabelled = {id_ for id_, task in stand_in.tasks.items() if not task["annotations"]}
    written = [p for p in stand_in.predictions if p["model_version"] == record.model_version]
    return [p["task"] for p in sorted(written, key=lambda p: p["score"]) if p["task"] in unlabelled]


def test_behind_the_queue_and_the_confident_crops_there_is_a_reserve(small, stand_in, services, project):
    first = services.store.latest_round(1)
    assert len(served(stand_in, first)) == len(first.queue) + len(first.reserve) == 30

    label(stand_in, services, project, 8)

    latest = services.store.latest_round(1)
    shown = [*latest.queue, *latest.pre_annotated, *latest.reserve]
    assert served(stand_in, latest) == shown
    assert len(shown) == len({*shown}) == 30
    blind = [p["result"] for p in stand_in.predictions if p["task"] in latest.reserve]
    assert blind
    assert all(
        p["result"] == []
        for p in stand_in.predictions
        if p["model_version"] == latest.model_version and p["task"] in latest.reserve
    )
    assert not {*latest.reserve} & {*services.store.project(1).check_tasks}


def test_the_least_confident_come_first_and_nothing_that_is_asked_for_already(monkeypatch):
    monkeypatch.setattr(reserve, "CROPS_AT_LEAST", 5)
    first = np.array([0.9, 0.6, 0.8, 0.5, 0.7, 0.55, 0.95])
    outcome = SimpleNamespace(probabilities=np.column_stack([first, 1 - first]), number=3)
    is_open = np.ones(7, dtype=bool)
    is_open[5] = False  # labelled, say
    assert reserve.reserve_rows(outcome, is_open, [1, 0], 0) == [3, 4, 2]
    assert reserve.reserve_rows(outcome, is_open, [0, 1, 2, 3, 4], 0) == []
    assert reserve.reserve_rows(outcome, np.zeros(7, dtype=bool), [], 0) == []


def test_before_there_is_a_model_they_are_random_and_the_same_again(monkeypatch):
    monkeypatch.setattr(reserve, "CROPS_AT_LEAST", 10)
    outcome, is_open = SimpleNamespace(probabilities=None, number=1), np.ones(1000, dtype=bool)
    found = reserve.reserve_rows(outcome, is_open, [7], 0)
    assert len({*found}) == 9
    assert found == reserve.reserve_rows(outcome, is_open, [7], 0) != sorted(found)


def at(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


@pytest.mark.parametrize("left", [10, 1])
def test_a_crop_that_somebody_holds_is_left_out_as_long_as_there_are_others(
    stand_in, services, project, left
):
    """Annotator 2 opened the first crop and left; 1 was given others, three times."""
    store, first, now = services.store, services.store.latest_round(1), services.clock()
    held, *others = first.queue
    for n in range(3):
        batch = (held, *others[n:])
        record = replace(first, number=n + 2, check=(), batch=batch, published_at=now - 300 + 100 * n)
        store.save_round(1, record, ())
    given = [next(id_ for id_ in project if id_ not in first.queue), *others[:3]]
    given += [id_ for id_ in project if id_ not in {held, *given}][: len(project) - left - 4]
    times = [now - 350, now - 250, now - 150, now - 50]
    store.save_annotations(
        1,
        [
            Annotation(n, id_, 1, project[id_], False, at(times[n] if n < 4 else now - 10_000 + n))
            for n, id_ in enumerate(given)
        ],
    )
    found = services.rounds.run(services.store.project(1), save=False).record
    served = {*found.queue, *found.pre_annotated, *found.reserve}
    assert served == {*project} - {*given} - ({held} if left > 1 else set())
