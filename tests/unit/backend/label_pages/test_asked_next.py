"""Crops that people ask for: the head of Label Studio's queue, from the next round until they are labelled."""

from __future__ import annotations

import pytest

from everylabel.backend.label_pages.pages import PageError
from everylabel.backend.label_studio.publisher import Queue
from everylabel.backend.store.asked_next import MOST
from tests.stand_in_label_studio import label_config


@pytest.fixture
def wanted(services, taught):
    """Five open crops that the newest round does not ask for."""
    latest = services.store.latest_round(1)
    closed = services.store.annotated_tasks(1) | {*services.store.project(1).check_tasks, *latest.queue}
    return [task for task in reversed(taught) if task not in closed][:5]


def test_the_next_round_that_label_studio_serves_begins_with_them(services, stand_in, pages, ann, wanted):
    assert pages.ask_next(1, ann, wanted) == 5
    services.loop.catch_up(1)
    latest = services.store.latest_round(1)
    assert stand_in.projects[1]["model_version"] == latest.model_version
    assert stand_in.queue(1)[:5] == wanted == list(latest.asked) == list(latest.queue[:5])
    assert len({*latest.queue}) == len(latest.queue), "each is asked for once"
    shown = [
        p for p in stand_in.predictions if p["model_version"] == latest.model_version and p["task"] in wanted
    ]
    assert [p["result"] for p in shown] == [[]] * 5, "nothing is pre-filled"
    assert {*wanted} <= {*pages.give(1, ann, "next-batch").tasks}


def test_they_are_on_disk_before_a_round_and_asking_twice_changes_nothing(
    make_services, services, pages, ann, bob, wanted
):
    pages.ask_next(1, ann, wanted)
    pages.ask_next(1, bob, wanted[::-1])
    again = make_services()  # the backend was killed
    assert again.store.asked_next(1) == wanted
    again.loop.catch_up(1)
    assert list(again.store.latest_round(1).asked) == wanted


def test_what_is_asked_for_later_comes_before(services, pages, ann, wanted):
    pages.ask_next(1, ann, wanted[:2])
    pages.ask_next(1, ann, wanted[2:])
    services.loop.catch_up(1)
    assert list(services.store.latest_round(1).asked) == [*wanted[2:], *wanted[:2]]


def test_they_stay_until_they_are_labelled_and_are_forgotten_then(
    services, stand_in, pages, ann, wanted, send, taught
):
    pages.ask_next(1, ann, wanted)
    services.loop.catch_up(1)
    send(stand_in.annotate(wanted[0], taught[wanted[0]]))
    services.loop.catch_up(1)
    assert list(services.store.latest_round(1).asked) == wanted[1:]
    assert services.store.asked_next(1) == wanted[1:]
    assert stand_in.queue(1)[:4] == wanted[1:]


def test_labelled_blind_and_deleted_crops_are_left_out(services, pages, ann, taught, wanted):
    labelled, blind = next(iter(taught)), services.store.project(1).check_tasks[-1]
    assert pages.ask_next(1, ann, [labelled, blind, 10**6, *wanted, wanted[0]]) == 5
    services.store.delete_tasks(1, [wanted[1]])
    services.loop.catch_up(1)
    assert list(services.store.latest_round(1).asked) == [wanted[0], *wanted[2:]]
    assert pages.ask_next(1, ann, [labelled]) == 0


def test_a_crop_that_somebody_holds_is_left_out_and_not_forgotten(services, pages, ann, wanted, monkeypatch):
    held = {wanted[0]}
    monkeypatch.setattr("everylabel.backend.rounds.round_input.held_crops", lambda *_: held)
    pages.ask_next(1, ann, wanted)
    services.loop.catch_up(1)
    assert list(services.store.latest_round(1).asked) == wanted[1:]
    assert services.store.asked_next(1) == wanted


def test_they_can_be_taken_back(services, stand_in, pages, ann, wanted):
    pages.ask_next(1, ann, wanted)
    services.loop.catch_up(1)
    pages.withdraw(1, wanted)
    services.loop.catch_up(1)
    assert services.store.latest_round(1).asked == ()
    assert stand_in.queue(1)[0] not in wanted


def test_the_page_of_crops_like_one_goes_on_with_others(services, pages, ann, taught, monkeypatch):
    monkeypatch.setattr("everylabel.backend.label_pages.crops.PAGE", 6)
    seed = next(iter(taught))
    first = pages.give(1, ann, "like", like=seed)
    pages.ask_next(1, ann, first.tasks)
    pages.give_back(1, ann, [first.id])
    assert not {*pages.give(1, ann, "like", like=seed).tasks} & {*first.tasks}


def test_more_than_people_can_want_is_refused_with_the_way_out(services, pages, ann, wanted, monkeypatch):
    monkeypatch.setattr("everylabel.backend.store.asked_next.MOST", 6)
    pages.ask_next(1, ann, wanted)
    pages.ask_next(1, ann, wanted)
    others = [task.id for task in services.store.tasks(1) if task.id not in wanted]
    with pytest.raises(PageError, match=f"{MOST} crops may be asked for at a time"):
        pages.ask_next(1, ann, others)
    assert services.store.asked_next(1) == wanted, "nothing is half stored"
    services.store.save_project(
        1, label_config=label_config().replace("<Choices ", '<Choices perRegion="true" ')
    )
    with pytest.raises(PageError, match="per region"):
        pages.ask_next(1, ann, wanted)


def test_a_queue_of_an_earlier_version_has_none():
    fields = {
        "model_version": "round 1",
        **{key: [] for key in ("check", "batch", "pre_annotated", "flagged")},
    }
    assert not Queue.of(fields).asked
