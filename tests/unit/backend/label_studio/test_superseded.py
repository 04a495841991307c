"""Superseded rounds leave Label Studio, except those a form may still be open of."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from everylabel.backend.label_studio import webhooks
from everylabel.backend.label_studio.superseded import KEPT_FOR_OTHERS_SECONDS, needed_versions
from tests.unit.backend.rounds.test_runner import flagging

NOW = 1_000_000.0


def rounds(*published):
    return [
        replace(flagging(number, (), {}), finished_at=at, published_at=at)
        for number, at in enumerate(published, 1)
    ]


def numbers(needed):
    return {int(name.split()[1]) for name in needed}


def test_of_one_annotators_rounds_those_since_the_last_submit_are_needed():
    every_five_seconds = rounds(*(NOW - 600 + 5 * i for i in range(120)))
    needed = numbers(needed_versions(every_five_seconds, {1: NOW - 5}, [1], NOW))
    assert needed == {*range(97, 121)}, "two minutes'"


def test_a_crop_left_open_over_a_long_break_keeps_its_round():
    """It was loaded with the submit, from the round that was superseded a second later."""
    before_lunch, after = rounds(NOW - 7000, NOW - 6000, NOW - 5000, NOW - 4999, NOW - 100), {1: NOW - 5000.5}
    assert numbers(needed_versions(before_lunch, after, [1], NOW)) == {2, 3, 4, 5}


def test_where_somebody_else_may_have_opened_a_crop_a_quarter_of_an_hour_is_kept():
    three = rounds(NOW - 1200, NOW - 1000, NOW - 500, NOW - 400)
    assert numbers(needed_versions(three, {1: NOW - 50}, [1], NOW)) == {4}
    assert numbers(needed_versions(three, {1: NOW - 50}, [1, 2], NOW)) == {2, 3, 4}
    assert KEPT_FOR_OTHERS_SECONDS == 900
    assert numbers(needed_versions(three, {1: NOW - 50, 2: NOW - 60}, [1, 2], NOW)) == {4}


def test_what_is_served_is_needed_however_old_it_is():
    old = [*rounds(NOW - 9000, NOW - 8000), replace(flagging(3, (), {}), finished_at=NOW - 7000)]
    assert numbers(needed_versions(old, {}, [1], NOW)) == {2, 3}
    assert needed_versions([], {}, [1], NOW) == set()


@pytest.fixture
def clocked(make_services, stand_in, digit_crops):
    """A connected project and a trainer whose clock a test moves on; returns a way to label as people do."""
    now = [NOW]
    services = make_services(clock=lambda: now[0])
    stand_in.clock = lambda: now[0]
    stand_in.add_project(1)
    truth = dict(
        zip(stand_in.add_tasks(1, *(image for image, _ in digit_crops[:60])), digit_crops, strict=False)
    )
    services.store.save_project(1, connected=True)
    services.loop.catch_up(1)
    trainer = services.trainer

    def label(count, seconds, annotator=1):
        for _ in range(count):
            now[0] += seconds
            task = stand_in.queue(1)[0]
            at = datetime.fromtimestamp(now[0], timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            body = stand_in.annotate(task, truth[task][1], updated_at=at, completed_by=annotator)
            services.store.add_event(1, body["action"], webhooks.read(body).kept())
            assert trainer.learn(1)

    label.trainer, label.now, label.services = trainer, now, services
    return label


def most_on_a_task(stand_in):
    held = [prediction["task"] for prediction in stand_in.predictions]
    return max(held.count(task) for task in set(held))


def test_while_somebody_labels_no_crop_gathers_more_than_a_few_rounds(stand_in, clocked):
    clocked(40, seconds=20.0)
    assert most_on_a_task(stand_in) <= 11, (
        "seven of the last two minutes, and three that wait to be deleted together"
    )
    clocked.now[0] += 120
    clocked.trainer.run_maintenance()
    left = {prediction["model_version"] for prediction in stand_in.predictions}
    assert len(left) <= 4
    assert clocked.services.store.latest_round(1).model_version in left


def test_an_annotated_crop_is_freed_of_rounds_that_are_kept_for_others(stand_in, clocked):
    stand_in.users = [
        {"id": 1},
        {"id": 2},
    ]  # the other one may have opened anything, a quarter of an hour ago
    stand_in.predictions.append({"task": 1, "model_version": "a detector", "score": 1, "result": []})
    clocked(30, seconds=20.0)
    labelled = [id_ for id_, task in stand_in.tasks.items() if task["annotations"]]
    clocked.now[0] += 121
    clocked.trainer.run_maintenance()
    latest = clocked.services.store.latest_round(1)
    shown = {*latest.flagged, *latest.emptied}
    held = [p["task"] for p in stand_in.predictions if p["task"] in labelled]
    last = max((a["id"], id_) for id_ in labelled for a in stand_in.tasks[id_]["annotations"])[1]
    assert {task for task in held if held.count(task) > 1} <= {*shown, last, 1}
    assert most_on_a_task(stand_in) > 8, "the others' crops keep theirs"
    assert "a detector" in {p["model_version"] for p in stand_in.predictions}
    assert set(stand_in.queue(1)) >= {*latest.queue, *latest.pre_annotated}


def test_a_round_that_is_needed_no_more_goes_though_later_ones_went_before_it(stand_in, clocked):
    clocked(2, seconds=20.0, annotator=2)  # leaves, with a crop open
    left_open = clocked.services.store.latest_round(1).model_version
    stand_in.users = [{"id": 1}, {"id": 2}]
    clocked(30, seconds=20.0)
    held = {prediction["model_version"] for prediction in stand_in.predictions}
    assert left_open in held, "their form would be refused"
    clocked.now[0] += 90_000
    clocked(1, seconds=1.0)
    clocked.now[0] += 1000
    clocked.trainer.run_maintenance()
    assert left_open not in {prediction["model_version"] for prediction in stand_in.predictions}
