"""Pages of crops that others have labelled: one more label, given without seeing theirs, stands beside it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.stand_in_label_studio import choice


@pytest.fixture
def wanted(services, stand_in, taught, monkeypatch):
    """Four labelled crops of which one more label would tell most: the first is labelled by Ann, the others by somebody else."""
    tasks = list(taught)[:4]
    stand_in.tasks[tasks[0]]["annotations"][0]["completed_by"] = 7
    services.loop.reconcile(1, whole=True)
    found = replace(services.labelling.pool_files.snapshot(1), second_labels=tuple(tasks))
    monkeypatch.setattr(services.labelling.pool_files, "snapshot", lambda _: found)
    return tasks


def held(stand_in, task):
    return [
        (a["completed_by"], a["result"][0]["value"]["choices"][0])
        for a in stand_in.tasks[task]["annotations"]
    ]


def test_who_has_labelled_a_crop_is_not_asked_again_and_nobody_sees_the_others_label(
    services, pages, ann, bob, wanted
):
    assert (pages.second_labels(1, ann), pages.second_labels(1, bob)) == (3, 4)
    page = pages.give(1, ann, "second-labels")
    assert list(page.tasks) == wanted[1:]
    assert (page.class_name, page.preset) == (None, {})
    assert pages.resume(1, ann, page.id) == page, "though all are labelled"
    assert list(pages.give(1, bob, "second-labels").tasks) == wanted[:1], "the others are on Ann's page"


def test_a_second_label_stands_beside_the_first_and_an_undo_takes_it_alone_back(
    services, stand_in, pages, sender, ann, wanted, taught
):
    page = pages.give(1, ann, "second-labels")
    before = {task: held(stand_in, task) for task in page.tasks}
    same, other, left_out = page.tasks
    differs = next(name for name in "0123" if name != taught[other])
    given = {same: taught[same], other: differs}
    pages.confirm(1, ann, page.id, given, 20.0)
    assert pages.second_labels(1, ann) == 1, "at once"
    assert sender.send(1)
    assert {task: held(stand_in, task) for task in page.tasks} == {
        same: [*before[same], (7, taught[same])],
        other: [*before[other], (7, differs)],
        left_out: before[left_out],
    }
    services.loop.catch_up(1)
    votes = {(a.annotator, a.choice) for a in services.store.annotations_of(1, [other])}
    assert len(votes) == 2
    pages.undo(1, ann)
    assert sender.send(1)
    assert {task: held(stand_in, task) for task in page.tasks} == before


def test_what_the_person_labelled_in_label_studio_meanwhile_is_neither_changed_nor_doubled(
    services, stand_in, pages, sender, ann, wanted, taught
):
    page = pages.give(1, ann, "second-labels")
    task = page.tasks[0]
    in_label_studio, on_the_page = [name for name in "0123" if name != taught[task]][:2]
    stand_in.tasks[task]["annotations"].append(
        {
            **stand_in.tasks[task]["annotations"][0],
            "id": 99_001,
            "completed_by": 7,
            "result": choice(in_label_studio),
        }
    )
    before = held(stand_in, task)
    pages.confirm(1, ann, page.id, {task: on_the_page}, 9.0)
    assert sender.send(1)
    assert held(stand_in, task) == before
    (told,) = services.store.troubled_labels(1, 7, 0)
    assert told.reason == "You have labelled it in Label Studio meanwhile."


def test_a_crop_whose_label_is_gone_meanwhile_gets_an_ordinary_one(
    services, stand_in, pages, sender, ann, wanted, taught
):
    page = pages.give(1, ann, "second-labels")
    gone, other, _ = page.tasks
    stand_in.tasks[gone]["annotations"].clear()
    services.loop.reconcile(1, whole=True)
    pages.confirm(1, ann, page.id, {gone: taught[gone], other: taught[other]}, 9.0)
    assert sender.send(1)
    assert held(stand_in, gone) == [(7, taught[gone])]
    assert len(held(stand_in, other)) == 2


def test_the_crops_like_one_of_them_do_not_give_its_label_away(services, pages, ann, bob, wanted, taught):
    own, others, *_ = wanted
    shown = {}
    for task in (own, others):
        page = pages.give(1, ann, "like", like=task)
        shown[task] = pages.label_of_like(page)
        pages.give_back(1, ann, [page.id])
    assert shown[own] == taught[own], "Ann has labelled it herself"
    assert shown[others] is None


def test_the_looks_of_a_spot_check_keep_their_one_label(services, pages, ann, wanted, monkeypatch):
    looks = SimpleNamespace(looks=(wanted[2],))
    monkeypatch.setattr(services.store, "certificate_under_way", lambda project_id: looks)
    assert list(pages.give(1, ann, "second-labels").tasks) == [wanted[1], wanted[3]]


def test_there_is_no_page_while_nobody_disagrees(pages, ann, taught):
    assert pages.second_labels(1, ann) == 0
    assert pages.give(1, ann, "second-labels") is None
