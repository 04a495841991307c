"""Pages of suspect labels: who reviews what, whose annotation is changed, and what an undo puts back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from everylabel.backend.label_pages.pages import PageError
from everylabel.backend.store import round_snapshot
from tests.stand_in_label_studio import choice


@pytest.fixture
def suspect(services, stand_in, taught, monkeypatch):
    """Three labelled crops whose label the newest round suspects: the first is Ann's own."""
    first, second, third = list(taught)[:3]
    stand_in.tasks[first]["annotations"][0]["completed_by"] = 7
    services.loop.reconcile(1, whole=True)
    snapshot = services.labelling.pool_files.snapshot(1)
    suspected = tuple(
        round_snapshot.SuspectedLabel(task, taught[task], "3" if taught[task] != "3" else "0", 0.1)
        for task in (first, second, third)
    )
    found = replace(snapshot, suspected=suspected)
    monkeypatch.setattr(services.labelling.pool_files, "snapshot", lambda _: found)
    return {one.task_id: one for one in suspected}


def held(stand_in, task):
    return [
        (a["completed_by"], a["result"][0]["value"]["choices"][0])
        for a in stand_in.tasks[task]["annotations"]
    ]


def test_a_page_shows_the_most_suspicious_first_and_what_is_suggested(services, pages, ann, suspect):
    page = pages.give(1, ann, "suspects")
    assert list(page.tasks) == list(suspect)
    assert (page.class_name, page.preset) == (None, {})
    assert pages.suggested(page) == {task: (one.given, one.suggested) for task, one in suspect.items()}
    assert pages.progress(1).suspects == 3
    assert pages.resume(1, ann, page.id) == page, "though all are labelled"


def test_ones_own_annotation_is_changed_and_that_of_others_is_left_with_a_new_one_beside_it(
    services, stand_in, pages, sender, ann, suspect
):
    page = pages.give(1, ann, "suspects")
    own, others, kept = page.tasks
    labels = {own: suspect[own].suggested, others: suspect[others].suggested, kept: suspect[kept].given}
    before = {task: held(stand_in, task) for task in page.tasks}
    pages.confirm(1, ann, page.id, labels, 20.0)
    assert sender.send(1)
    assert held(stand_in, own) == [(7, suspect[own].suggested)]
    for task in (others, kept):
        assert held(stand_in, task) == [*before[task], (7, labels[task])]
    assert services.store.labels_to_do(1) == []
    assert sender.send(1), "and nothing twice"
    assert len(held(stand_in, others)) == 2


def test_reviewed_labels_leave_the_suspects(services, stand_in, pages, sender, ann, bob, suspect):
    page = pages.give(1, ann, "suspects")
    own = page.tasks[0]
    pages.confirm(1, ann, page.id, {own: suspect[own].suggested}, 9.0)
    assert pages.progress(1).suspects == 2, "at once: it has another label"
    assert pages.give(1, ann, "suspects") is None, "Ann left the others out"
    assert own not in pages.give(1, bob, "suspects").tasks


def test_a_label_that_is_kept_is_never_suspected_again(services, pages, sender, ann, bob, suspect, taught):
    page = pages.give(1, ann, "suspects")
    kept = page.tasks[2]
    pages.confirm(1, ann, page.id, {kept: suspect[kept].given}, 9.0)
    assert sender.send(1)
    assert kept not in pages.give(1, bob, "suspects").tasks
    services.loop.catch_up(1)
    assert services.store.latest_round(1).confirmed[kept] == taught[kept]


def test_a_review_counts_before_label_studio_has_it_in_place_of_ones_own_annotation(
    services, pages, ann, suspect
):
    page = pages.give(1, ann, "suspects")
    own = page.tasks[0]
    pages.confirm(1, ann, page.id, {own: suspect[own].suggested}, 9.0)
    counted = [a for a in services.store.annotations(1) if a.task_id == own]
    assert [(a.annotator, a.choice) for a in counted] == [(7, suspect[own].suggested)]


def test_a_kill_between_change_and_note_changes_nothing_twice(
    services, stand_in, pages, sender, ann, suspect, monkeypatch
):
    page = pages.give(1, ann, "suspects")
    own = page.tasks[0]
    pages.confirm(1, ann, page.id, {own: suspect[own].suggested}, 9.0)
    with monkeypatch.context() as patched:
        patched.setattr(services.store, "finish_label", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sender.send(1)
    stamp = stand_in.tasks[own]["annotations"][0]["updated_at"]
    assert sender.send(1)
    assert stand_in.tasks[own]["annotations"][0]["updated_at"] == stamp
    pages.undo(1, ann)
    assert sender.send(1)
    assert held(stand_in, own) == [(7, suspect[own].given)]


def test_what_was_changed_in_label_studio_meanwhile_stays(services, stand_in, pages, sender, ann, suspect):
    page = pages.give(1, ann, "suspects")
    own = page.tasks[0]
    pages.confirm(1, ann, page.id, {own: suspect[own].suggested}, 9.0)
    newer = next(name for name in "0123" if name not in (suspect[own].given, suspect[own].suggested))
    stand_in.tasks[own]["annotations"][0]["result"] = choice(newer)
    assert sender.send(1)
    assert held(stand_in, own) == [(7, newer)]
    (told,) = services.store.troubled_labels(1, 7, 0)
    assert told.reason == "You have changed your annotation in Label Studio meanwhile."


def test_an_undo_puts_ones_own_annotation_back_and_deletes_the_new_ones(
    services, stand_in, pages, sender, ann, suspect
):
    before = {task: held(stand_in, task) for task in suspect}
    page = pages.give(1, ann, "suspects")
    pages.confirm(1, ann, page.id, {task: one.suggested for task, one in suspect.items()}, 20.0)
    assert sender.send(1)
    again = pages.undo(1, ann)
    assert again.preset == {task: one.suggested for task, one in suspect.items()}
    assert sender.send(1)
    assert {task: held(stand_in, task) for task in suspect} == before
    assert services.store.labels_to_do(1) == []


def test_what_was_edited_after_the_review_is_not_put_back(services, stand_in, pages, sender, ann, suspect):
    page = pages.give(1, ann, "suspects")
    own = page.tasks[0]
    pages.confirm(1, ann, page.id, {own: suspect[own].suggested}, 9.0)
    assert sender.send(1)
    newer = next(name for name in "0123" if name not in (suspect[own].given, suspect[own].suggested))
    stand_in.tasks[own]["annotations"][0]["result"][0]["value"]["choices"] = [newer]
    pages.undo(1, ann)
    assert sender.send(1)
    assert held(stand_in, own) == [(7, newer)]


def test_two_people_never_review_the_same_label_at_once(pages, ann, bob, suspect):
    assert pages.give(1, ann, "suspects")
    assert pages.give(1, bob, "suspects") is None


def test_a_label_that_is_gone_meanwhile_is_told_and_nothing_is_stored(
    services, stand_in, pages, ann, suspect
):
    page = pages.give(1, ann, "suspects")
    second = page.tasks[1]
    services.store.delete_annotations(1, [stand_in.tasks[second]["annotations"][0]["id"]])
    with pytest.raises(PageError, match="is gone meanwhile"):
        pages.confirm(1, ann, page.id, {second: "0"}, 9.0)
    assert services.store.labels_to_do(1) == []
