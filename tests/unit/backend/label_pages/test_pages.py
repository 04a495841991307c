"""Pages of crops: who gets which, what a confirmation stores, and what an undo takes back."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from everylabel.backend.label_pages.glance import fast_pages_in_words
from everylabel.backend.label_pages.pages import NotLabelledHereError, PageError, UnknownPageError
from everylabel.backend.store import Person
from everylabel.backend.store.label_pages import RESERVED_SECONDS
from tests.stand_in_label_studio import label_config


def given_labels(services):
    return {a.task_id: a.choice for a in services.store.annotations(1) if a.annotator in (7, 8)}


def test_a_page_shows_open_crops_that_are_predicted_to_be_of_one_class(services, pages, ann, taught):
    page = pages.give(1, ann, "class")
    assert page.class_name in "0123"
    snapshot = services.labelling.pool_files.snapshot(1)
    predicted = {
        int(task): snapshot.classes[code]
        for task, code in zip(snapshot.tasks, snapshot.predicted, strict=True)
    }
    assert {predicted[task] for task in page.tasks} == {page.class_name}
    assert {*page.preset} == {*page.tasks}
    assert {*page.preset.values()} == {page.class_name}
    assert not {*page.tasks} & {*list(taught)[:16]}, "labelled already"
    assert not {*page.tasks} & {*services.store.project(1).check_tasks}, "these are labelled blind"


def test_two_people_never_have_a_crop_on_both_their_pages(pages, ann, bob):
    seen: Counter[int] = Counter()
    for person, kind in [
        (ann, "class"),
        (bob, "class"),
        (ann, "next-batch"),
        (bob, "next-batch"),
        (ann, "class"),
    ]:
        if (page := pages.give(1, person, kind)) is not None:
            seen.update(page.tasks)
    assert len(seen) > 10
    assert set(seen.values()) == {1}


def test_who_comes_while_another_has_all_crops_of_a_class_gets_those_of_the_next(pages, ann, bob):
    first, second = pages.give(1, ann, "class"), pages.give(1, bob, "class")
    assert first.class_name != second.class_name
    assert pages.give(1, bob, "class", first.class_name) is None


def test_the_next_batch_comes_in_its_order_and_without_a_class(services, pages, ann):
    page = pages.give(1, ann, "next-batch")
    queue = [
        task for task in services.store.latest_round(1).queue if task not in services.store.annotated_tasks(1)
    ]
    assert list(page.tasks[: len(queue)]) == queue
    assert page.preset == {}
    assert page.class_name is None


def test_a_page_that_is_given_back_or_forgotten_is_given_again(make_services, services, pages, ann, bob):
    page = pages.give(1, ann, "class", "0") or pages.give(1, ann, "class")
    assert pages.give(1, bob, "class", page.class_name) is None or not (
        {*pages.give(1, bob, "class", page.class_name or "0").tasks} & {*page.tasks}
    )
    pages.give_back(1, bob)
    pages.give_back(1, ann, [page.id])
    assert {*pages.give(1, bob, "class", page.class_name).tasks} >= {*page.tasks}
    assert pages.resume(1, ann, page.id) is None, "Bob has them now"
    pages.give_back(1, bob)
    assert pages.resume(1, ann, page.id).tasks == page.tasks
    later = make_services(clock=lambda: time.time() + RESERVED_SECONDS + 1).labelling.pages
    assert {*later.give(1, ann, "class", page.class_name).tasks} >= {*page.tasks}


def test_a_confirmed_page_is_on_disk_counts_at_once_and_is_taken_in_once(make_services, services, pages, ann):
    page = pages.give(1, ann, "class")
    first, second, *rest = page.tasks
    labels = {second: "3", **dict.fromkeys(rest, page.class_name)}
    before = services.store.latest_round(1)
    confirmed = pages.confirm(1, ann, page.id, labels, 12.0)
    again = make_services()
    assert given_labels(again) == labels, "a process that starts now finds it"
    assert first not in given_labels(again), "left out"
    assert pages.confirm(1, ann, page.id, dict.fromkeys(page.tasks, "1"), 1.0) == confirmed
    assert given_labels(services) == labels
    services.loop.catch_up(1)
    after = services.store.latest_round(1)
    assert after.n_labels == before.n_labels + len(labels), "Label Studio has none of them yet"
    assert not {*labels} & {*after.queue}


def test_a_crop_that_was_left_out_is_not_asked_of_the_same_person_again(pages, ann, bob):
    page = pages.give(1, ann, "class")
    first, *rest = page.tasks
    pages.confirm(1, ann, page.id, dict.fromkeys(rest, page.class_name), 9.0)
    again = pages.give(1, ann, "class", page.class_name)
    assert again is None or first not in again.tasks
    assert first in pages.give(1, bob, "class", page.class_name).tasks


def test_the_pages_time_is_shared_out_and_no_longer_than_it_was_anybodys(services, pages, ann):
    page = pages.give(1, ann, "class")
    confirmed = pages.confirm(1, ann, page.id, dict(page.preset), 1e6)
    assert 0 <= confirmed.seconds < 60
    labels = services.store.labels_of_page(page.id)
    assert sum(label.lead_time for label in labels) == pytest.approx(confirmed.seconds)


def test_a_page_confirmed_faster_than_anybody_can_look_is_told(make_services, services, pages, ann, bob):
    page = pages.give(1, ann, "class")
    assert pages.confirm(1, ann, page.id, dict(page.preset), 1000.0).too_fast, "the browser is not believed"
    (told,) = services.store.fast_pages(1)
    assert (told.annotator, told.pages, told.crops) == (7, 1, len(page.tasks))
    said = fast_pages_in_words([told], {7: "Ann"})
    assert said == [
        f"Ann confirmed 1 page with {len(page.tasks)} labels faster than anybody can look at them, the fastest in "
        f"{told.shortest:.1f} s: review these labels, or ask"
    ]
    slow = pages.give(1, bob, "next-batch")
    later = make_services(clock=lambda: time.time() + 60).labelling.pages
    assert not later.confirm(1, bob, slow.id, dict.fromkeys(slow.tasks, "1"), 30.0).too_fast
    assert [fast.annotator for fast in services.store.fast_pages(1)] == [7]


def test_undo_gives_the_page_back_with_its_classes_and_its_labels_count_no_more(services, pages, ann):
    page = pages.give(1, ann, "class")
    first, second, *rest = page.tasks
    pages.confirm(1, ann, page.id, {second: "3", **dict.fromkeys(rest, page.class_name)}, 12.0)
    again = pages.undo(1, ann)
    assert again.tasks == page.tasks
    assert (again.preset[first], again.preset[second]) == (None, "3")
    assert given_labels(services) == {}
    assert services.store.labels_to_do(1) == [], "none of them had left"
    with pytest.raises(PageError, match="was undone"):
        pages.confirm(1, ann, page.id, {first: "0"}, 1.0)
    pages.confirm(1, ann, again.id, {first: "0"}, 1.0)
    assert given_labels(services) == {first: "0"}
    pages.undo(1, ann)
    assert pages.undo(1, ann) is None, "there is nothing before it"


def test_an_undo_that_is_sent_again_takes_back_no_second_page(services, pages, ann, bob):
    """Its answer may have been lost."""
    first, second = (pages.give(1, ann, "class") for _ in range(2))
    for page in (first, second):
        pages.confirm(1, ann, page.id, dict.fromkeys(page.tasks, page.class_name), 12.0)
    wanted = "0123456789abcdef" * 2
    again = pages.undo(1, ann, wanted)
    assert (again.id, again.tasks) == (wanted, second.tasks)
    assert pages.undo(1, ann, wanted) == again
    assert {*given_labels(services)} == {*first.tasks}
    assert pages.undo(1, bob, wanted) is None, "it is not theirs"


def test_a_page_of_another_person_or_project_is_not_known(services, pages, ann, bob):
    page = pages.give(1, ann, "class")
    services.store.save_project(2, label_config=label_config())
    for person, project_id, number in ((bob, 1, page.id), (ann, 2, page.id), (ann, 1, "0" * 32)):
        with pytest.raises(UnknownPageError, match="Load the page again"):
            pages.confirm(project_id, person, number, {page.tasks[0]: "0"}, 1.0)
    assert given_labels(services) == {}


def test_a_class_that_has_left_the_labeling_config_is_named_and_nothing_is_lost(services, pages, ann):
    page = pages.give(1, ann, "class")
    first, *rest = page.tasks
    left = "1" if page.class_name != "1" else "2"
    services.store.save_project(1, label_config=label_config(*({*"0123"} - {left})))
    with pytest.raises(PageError, match=f"no class '{left}' any more"):
        pages.confirm(1, ann, page.id, {first: left, **dict.fromkeys(rest, page.class_name)}, 9.0)
    assert given_labels(services) == {}
    pages.confirm(1, ann, page.id, dict.fromkeys(rest, page.class_name), 9.0)
    assert given_labels(services) == dict.fromkeys(rest, page.class_name)


def test_a_task_that_is_gone_is_on_no_page(services, pages, ann):
    wanted = pages.give(1, ann, "class")
    pages.give_back(1, ann)
    services.store.delete_tasks(1, [wanted.tasks[0]])
    assert wanted.tasks[0] not in pages.give(1, ann, "class", wanted.class_name).tasks


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (label_config().replace("<Choices ", '<Choices perRegion="true" '), "is per region"),
        ("<View/>", "needs an <Image>"),
    ],
)
def test_a_project_that_is_not_labelled_on_pages_says_why(services, pages, ann, config, why):
    services.store.save_project(1, label_config=config)
    with pytest.raises(NotLabelledHereError, match=why):
        pages.give(1, ann, "class")


def test_before_there_is_a_model_the_next_batch_is_what_there_is(services, project, stand_in, pages):
    ann = Person(7, "ann")
    assert not pages.progress(1).has_model
    assert pages.give(1, ann, "class") is None
    assert pages.give(1, ann, "next-batch").tasks


def test_a_clock_that_was_set_back_keeps_no_crop_from_others_and_accuses_nobody(
    make_services, services, pages, ann, bob
):
    ahead = make_services(clock=lambda: time.time() + 7 * 86_400.0).labelling.pages
    first = ahead.give(1, ann, "class")
    second = ahead.give(1, ann, "class")
    ahead.confirm(1, ann, first.id, {first.tasks[0]: "1"}, 30.0)
    assert {*pages.give(1, bob, "class", second.class_name).tasks} & {*second.tasks}, (
        "nobody holds it for a week"
    )

    confirmed = pages.confirm(1, ann, second.id, dict.fromkeys(second.tasks, "2"), 30.0)
    assert (confirmed.seconds, confirmed.too_fast) == (30.0, False)
    assert pages.undo(1, ann).tasks == second.tasks, "the last one, whatever the clock said"
