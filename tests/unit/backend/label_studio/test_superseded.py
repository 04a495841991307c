"""Superseded rounds leave Label Studio, except those a form may still be open of."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from everylabel.backend.label_studio import webhooks
from everylabel.backend.label_studio.superseded import (
    KEPT_FOR_OTHERS_SECONDS,
    KEPT_SECONDS,
    OPEN_FORMS,
    PAUSES,
    PAUSES_SECONDS,
    Submit,
    last_of_open_forms,
    left_behind,
    needed_versions,
    reserves_left_over,
)
from everylabel.backend.store import Annotation
from tests.unit.backend.rounds.test_runner import flagging

NOW = 1_000_000.0


def rounds(*published):
    return [
        replace(flagging(number, (), {}), finished_at=at, published_at=at)
        for number, at in enumerate(published, 1)
    ]


def numbers(needed):
    return {int(name.split()[1]) for name in needed}


def once(at_by_annotator):
    """One submit of each annotator, of which it is not known when its form was opened."""
    return [Submit(who, 1, at, None) for who, at in at_by_annotator.items()]


def stream(*, start, step, count, first_task=1, annotator=1):
    """Submits from the label stream: each form is opened a second after the submit before."""
    times = [start + step * number for number in range(count)]
    return [Submit(annotator, first_task + n, at, at - step + 1) for n, at in enumerate(times)]


def test_of_one_annotators_rounds_those_since_the_last_submit_are_needed():
    every_five_seconds = rounds(*(NOW - 600 + 5 * i for i in range(120)))
    needed = numbers(needed_versions(every_five_seconds, once({1: NOW - 5}), [1], NOW))
    assert needed == {*range(97, 121)}, "two minutes'"


def test_a_crop_left_open_over_a_long_break_keeps_its_round():
    """It was loaded with the submit, from the round that was superseded a second later."""
    before_lunch, after = (
        rounds(NOW - 7000, NOW - 6000, NOW - 5000, NOW - 4999, NOW - 100),
        once({1: NOW - 5000.5}),
    )
    assert numbers(needed_versions(before_lunch, after, [1], NOW)) == {2, 3, 4, 5}


def test_where_somebody_else_may_have_opened_a_crop_a_quarter_of_an_hour_is_kept():
    three = rounds(NOW - 1300, NOW - 1000, NOW - 700, NOW - 400)
    assert numbers(needed_versions(three, once({1: NOW - 50}), [1], NOW)) == {4}
    assert numbers(needed_versions(three, once({1: NOW - 50}), [1, 2], NOW)) == {2, 3, 4}
    assert KEPT_FOR_OTHERS_SECONDS == 900
    assert numbers(needed_versions(three, once({1: NOW - 50, 2: NOW - 60}), [1, 2], NOW)) == {4}


def test_what_is_served_is_needed_however_old_it_is():
    old = [*rounds(NOW - 9000, NOW - 8000), replace(flagging(3, (), {}), finished_at=NOW - 7000)]
    assert numbers(needed_versions(old, [], [1], NOW)) == {2, 3}
    assert needed_versions([], [], [1], NOW) == set()


def test_the_next_crop_of_the_stream_is_open_until_a_form_opened_in_that_instant_is_submitted():
    labelled = stream(start=NOW - 4000, step=10, count=20)
    elsewhere = stream(start=NOW - 3000, step=10, count=60, first_task=100)  # in another tab, ever since
    ((left, last),) = last_of_open_forms([*labelled, *elsewhere])
    assert left == labelled[-1], "the crop that the first tab was served then is still on show there"
    assert last == elsewhere[-1]
    back = Submit(1, 50, NOW - 10, labelled[-1].at + 1)
    assert last_of_open_forms([*labelled, *elsewhere, back]) == [[last, back]], "it has been submitted now"


def test_a_crop_left_in_a_first_tab_keeps_its_round_while_the_same_person_labels_in_a_second():
    every_ten = rounds(*(NOW - 4000 + 10 * i for i in range(400)))
    labelled = stream(start=NOW - 4000, step=10, count=20)
    elsewhere = stream(start=NOW - 3000, step=10, count=300, first_task=100)
    needed = numbers(needed_versions(every_ten, [*labelled, *elsewhere], [1], NOW))
    assert 20 in needed, "served when the crop was opened, at NOW - 3809"
    assert len(needed) < 24, "twelve of the last two minutes, and few besides"


def test_a_crop_submitted_from_a_tab_keeps_the_round_it_was_opened_on_for_its_update():
    every_ten = rounds(*(NOW - 4000 + 10 * i for i in range(400)))
    single = Submit(1, 7, NOW - 2503, NOW - 3000)
    labelled = stream(start=NOW - 4000, step=10, count=399)
    needed = numbers(needed_versions(every_ten, [*labelled, single], [1], NOW))
    assert 101 in needed, "its `parent_prediction`"
    annotations = [
        Annotation(n, one.task_id, 1, "a", False, moment(one.at), opened_at=one.opened_at)
        for n, one in enumerate([single, *stream(start=NOW - 2400, step=10, count=200, first_task=100)])
    ]
    left, questioned = left_behind(annotations, flagging(9, (7, 110), {}), NOW - 120)
    assert 7 not in {*left, *questioned}
    assert {100, 111, 200} <= {*left}
    assert questioned == [110]


def test_of_rounds_served_unusually_long_the_longest_are_needed_for_an_hour():
    """Somebody had the time to open a crop from a tab."""
    at, published = NOW - 3000, []
    for number in range(200):
        published.append(at)
        at += 20 + number / 10 if number in range(100, 120) else 5
    needed = numbers(needed_versions(rounds(*published), [], [1], NOW))
    assert needed == {*range(120 - PAUSES + 1, 121), 200}
    assert numbers(needed_versions(rounds(*published), [], [1], NOW + PAUSES_SECONDS)) == {200}


def test_many_forms_that_seem_open_are_bounded():
    from_tabs = [Submit(1, n, NOW - 4000 + 60 * n, NOW - 4000 + 60 * n - 20) for n in range(50)]
    ((*found,),) = last_of_open_forms(from_tabs)
    assert found == from_tabs[-OPEN_FORMS:]


def test_a_reserve_is_left_over_once_its_round_is_replaced_and_the_stream_never_came_to_it():
    ends = (
        NOW - KEPT_SECONDS - 40,
        NOW - KEPT_SECONDS - 20,
        NOW - KEPT_SECONDS - 1,
        NOW - KEPT_SECONDS + 1,
        NOW,
    )
    records = [
        replace(record, batch=(record.number, 100 + record.number), reserve=(200,))
        for record in rounds(ends[0] - 20, *ends)
    ]
    records[1] = replace(records[1], reserve=())
    labelled = [Submit(1, 3, ends[2] - 5, None), Submit(1, 103, NOW - 1, None)]

    def left(people, done=()):
        return [record.number for record in reserves_left_over(records, labelled, people, NOW, done)]

    assert left(1) == [1], (
        "of the third one crop is left, and somebody may hold it; the fourth is not old enough"
    )
    assert left(0) == [1, 3]
    assert left(0, {1}) == [3]
    assert left(2) == []
    records = [replace(record, published_at=None) for record in records[1:]]
    assert left(0) == [], "of rounds that were never published nothing is to be deleted"


def moment(at):
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


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
            body = stand_in.annotate(task, truth[task][1], updated_at=moment(now[0]), completed_by=annotator)
            services.store.add_event(1, body["action"], webhooks.read(body).kept())
            assert trainer.learn(1)

    label.trainer, label.now, label.services = trainer, now, services
    return label


def most_on_a_task(stand_in):
    held = [prediction["task"] for prediction in stand_in.predictions]
    return max(held.count(task) for task in set(held))


@pytest.mark.extended
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


@pytest.mark.extended
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
    shown = {*latest.suspected, *latest.emptied}
    held = [p["task"] for p in stand_in.predictions if p["task"] in labelled]
    last = max((a["id"], id_) for id_ in labelled for a in stand_in.tasks[id_]["annotations"])[1]
    assert {task for task in held if held.count(task) > 1} <= {*shown, last, 1}
    assert most_on_a_task(stand_in) > 8, "the others' crops keep theirs"
    assert "a detector" in {p["model_version"] for p in stand_in.predictions}
    assert set(stand_in.queue(1)) >= {*latest.queue, *latest.pre_annotated}


def test_of_a_round_that_is_kept_the_queue_stays_and_the_reserve_goes(stand_in, clocked):
    stand_in.users = [
        {"id": 1},
        {"id": 2},
    ]  # whose form may be open: all rounds of a quarter of an hour are kept
    clocked(4, seconds=20.0)
    clocked.now[0] += KEPT_SECONDS + 1
    clocked.trainer.run_maintenance()
    store, held = clocked.services.store, {}
    for one in stand_in.predictions:
        held.setdefault(one["model_version"], set()).add(one["task"])
    *before, newest = store.rounds(1)
    assert {*newest.reserve} and {*newest.reserve} <= held[newest.model_version], (
        "it is the one that is served"
    )
    kept = [record for record in before if record.model_version in held]
    assert len(kept) >= 3
    labelled = {annotation.task_id for annotation in store.annotations(1)}
    for record in kept:
        assert {*record.queue} - labelled <= held[record.model_version]
        assert not {*record.reserve} & held[record.model_version]


@pytest.mark.extended
def test_a_suspect_label_has_the_newest_suggestion_alone_once_nobody_has_it_open(stand_in, clocked):
    clocked(30, seconds=20.0)
    store = clocked.services.store
    latest = store.latest_round(1)
    labelled = [annotation.task_id for annotation in store.annotations(1)]
    suspect, fresh = labelled[3], labelled[-1]
    older, newest = f"round {latest.number - 1}", latest.model_version
    for task in (suspect, fresh):
        stand_in.predictions = [p for p in stand_in.predictions if p["task"] != task]
        for version in (older, newest):
            stand_in.predictions.append(
                {
                    "id": 9000 + len(stand_in.predictions),
                    "task": task,
                    "model_version": version,
                    "score": 0.5,
                    "result": [],
                }
            )
    changed = replace(latest, suspected=(suspect, fresh))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store, "latest_round", lambda project_id: changed)
        clocked.trainer.run_maintenance()
    held = {
        task: [p["model_version"] for p in stand_in.predictions if p["task"] == task]
        for task in (suspect, fresh)
    }
    assert held == {suspect: [newest], fresh: [older, newest]}, "a form of the newest label may be open"


@pytest.mark.extended
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
