"""Pages of a project in which a crop may have several classes: what is predicted, given, sent, undone and reviewed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from everylabel.backend.label_pages.pages import PageError
from everylabel.backend.store import Person, round_snapshot
from everylabel.model import label_set
from tests.several_classes import CONFIG, NAMES, several, ticked  # noqa: F401
from tests.stand_in_label_studio import label_config


@pytest.fixture
def ann(services, several):  # noqa: F811
    services.labelling.sign_in.sign_in(1, "anns-token", "")
    return Person(7, "7@example.org")


@pytest.fixture
def predicted(services):
    """The newest round's label of each task."""

    def read():
        snapshot = services.labelling.pool_files.snapshot(1)
        return {
            int(task): snapshot.classes[code]
            for task, code in zip(snapshot.tasks, snapshot.predicted, strict=True)
        }

    return read


def as_lists(labels):
    return {task: list(label_set.split(label)) for task, label in labels.items()}


def given_labels(services):
    return {a.task_id: a.choice for a in services.store.annotations(1) if a.annotator == 7}


def held(stand_in, task):
    return [
        (a["completed_by"], a["result"][0]["value"]["choices"]) for a in stand_in.tasks[task]["annotations"]
    ]


def test_a_page_of_a_class_shows_the_crops_whose_set_holds_it_each_with_its_own_set(
    services, pages, ann, predicted
):
    of_task = predicted()
    held = {label for label in of_task.values() if "even" in label_set.split(label)}
    assert len(held) > 1, "with others and without"
    page = pages.give(1, ann, "class", "even")
    assert page.class_name == "even"
    assert page.preset == {task: of_task[task] for task in page.tasks}
    assert {*page.preset.values()} == held
    open_ones = {*of_task} - services.store.annotated_tasks(1) - {*services.store.project(1).check_tasks}
    wanted = sum("even" in label_set.split(of_task[task]) for task in open_ones)
    assert (len(page.tasks), pages.progress(1).open["even"]) == (min(24, wanted), wanted)


def test_without_a_wish_the_page_is_of_the_class_with_the_most_confident_crops(pages, ann):
    page = pages.give(1, ann, "class")
    assert page.class_name in NAMES
    assert all(page.class_name in label_set.split(label) for label in page.preset.values())
    assert {*pages.progress(1).open} <= {*NAMES}
    assert pages.progress(1).several


def test_a_set_with_a_class_that_has_left_the_labeling_config_is_on_no_page(services, pages, ann):
    services.store.save_project(1, label_config=CONFIG.replace('<Choice value="above one"/>', ""))
    page = pages.give(1, ann, "class", "even")
    assert {*page.preset.values()} == {"even"}


@pytest.mark.parametrize("kind", ["next-batch", "like"])
def test_other_kinds_of_pages_give_no_class(pages, ann, several, kind):  # noqa: F811
    page = pages.give(1, ann, kind, like=next(iter(several)) if kind == "like" else None)
    assert (page.class_name, page.preset) == (None, {})
    assert page.tasks


def test_what_is_confirmed_is_stored_in_one_order_learned_at_once_and_submitted_with_all_its_choices(
    services, stand_in, pages, sender, ann
):
    first, second, third, *_ = pages.give(1, ann, "next-batch").tasks
    pages.give_back(1, ann)
    page = pages.give(1, ann, "next-batch")
    pages.confirm(1, ann, page.id, {first: ["odd", "above one"], second: ["even"]}, 9.0)
    assert given_labels(services) == {first: "above one + odd", second: "even"}
    labels = services.store.latest_round(1).n_labels
    services.loop.catch_up(1)
    assert services.store.latest_round(1).n_labels == labels + 2
    assert sender.send(1)
    assert held(stand_in, first) == [(7, ["above one", "odd"])]
    assert held(stand_in, second) == [(7, ["even"])]
    assert held(stand_in, third) == [], "left out"


def test_undo_deletes_a_set_though_the_config_takes_one_class_a_crop_by_now(
    services, stand_in, pages, sender, ann
):
    page = pages.give(1, ann, "next-batch")
    pages.confirm(1, ann, page.id, {page.tasks[0]: ["even", "one stroke"]}, 9.0)
    assert sender.send(1)
    assert held(stand_in, page.tasks[0]) == [(7, ["even", "one stroke"])]
    services.store.save_project(1, label_config=CONFIG.replace(' choice="multiple"', ""))
    pages.undo(1, ann)
    assert sender.send(1)
    assert held(stand_in, page.tasks[0]) == []
    assert services.store.troubled_labels(1, 7, 0) == []


def test_undo_brings_the_sets_back_and_deletes_what_was_submitted(services, stand_in, pages, sender, ann):
    page = pages.give(1, ann, "class", "odd")
    first, *rest = page.tasks
    wanted = {first: "even + one stroke", **{task: page.preset[task] for task in rest[1:]}}
    pages.confirm(1, ann, page.id, as_lists(wanted), 12.0)
    assert sender.send(1)
    again = pages.undo(1, ann)
    assert again.preset == {**dict.fromkeys(page.tasks), **wanted}
    assert sender.send(1)
    assert [held(stand_in, task) for task in page.tasks] == [[] for _ in page.tasks]
    assert given_labels(services) == {}


def test_what_somebody_has_edited_since_is_not_taken_back(stand_in, pages, sender, ann):
    page = pages.give(1, ann, "next-batch")
    edited, untouched = page.tasks[:2]
    pages.confirm(1, ann, page.id, {edited: ["odd", "one stroke"], untouched: ["odd"]}, 9.0)
    assert sender.send(1)
    stand_in.tasks[edited]["annotations"][0]["result"][0]["value"]["choices"] = ["odd"]
    pages.undo(1, ann)
    assert sender.send(1)
    assert (held(stand_in, edited), held(stand_in, untouched)) == ([(7, ["odd"])], [])


def test_a_class_that_is_gone_is_named_alone_and_nothing_is_lost(services, pages, ann):
    page = pages.give(1, ann, "next-batch")
    first, second = page.tasks[:2]
    services.store.save_project(1, label_config=CONFIG.replace('<Choice value="above one"/>', ""))
    with pytest.raises(PageError, match="no class 'above one' any more") as refused:
        pages.confirm(1, ann, page.id, {first: ["even", "above one"], second: ["odd"]}, 9.0)
    assert "'even'" not in str(refused.value)
    assert given_labels(services) == {}


def test_a_class_that_is_gone_before_it_is_sent_leaves_that_label_out(services, stand_in, pages, sender, ann):
    page = pages.give(1, ann, "next-batch")
    first, second = page.tasks[:2]
    pages.confirm(1, ann, page.id, {first: ["even", "above one"], second: ["odd"]}, 9.0)
    services.store.save_project(1, label_config=CONFIG.replace('<Choice value="above one"/>', ""))
    assert sender.send(1)
    (told,) = services.store.troubled_labels(1, 7, 0)
    assert (told.task_id, told.reason) == (first, "The labeling config has no class 'above one' any more.")
    assert (held(stand_in, first), held(stand_in, second)) == ([], [(7, ["odd"])])


def test_names_that_are_no_classes_by_themselves_are_no_way_around_the_labeling_config(services, pages, ann):
    page = pages.give(1, ann, "next-batch")
    for names in (["even + odd"], ["even", "five"], [""]):
        with pytest.raises(PageError, match="has no class"):
            pages.confirm(1, ann, page.id, {page.tasks[0]: names}, 9.0)
    assert given_labels(services) == {}


def test_where_the_project_has_changed_over_meanwhile_it_says_so(services, pages, ann):
    page = pages.give(1, ann, "next-batch")
    with pytest.raises(PageError, match="several classes a crop by now"):
        pages.confirm(1, ann, page.id, {page.tasks[0]: "even"}, 9.0)
    services.store.save_project(1, label_config=label_config(*NAMES))
    with pytest.raises(PageError, match="one class a crop by now"):
        pages.confirm(1, ann, page.id, {page.tasks[0]: ["even", "odd"]}, 9.0)
    pages.confirm(1, ann, page.id, {page.tasks[0]: "even"}, 9.0)
    assert given_labels(services) == {page.tasks[0]: "even"}


@pytest.fixture
def suspect(services, stand_in, several, monkeypatch):  # noqa: F811
    """Two labelled crops whose set the newest round suspects: the first is Ann's own."""
    first, second = list(several)[:2]
    stand_in.tasks[first]["annotations"][0]["completed_by"] = 7
    services.loop.reconcile(1, whole=True)
    suspected = tuple(
        round_snapshot.SuspectedLabel(task, several[task], suggested, 0.1)
        for task, suggested in ((first, "above one + one stroke"), (second, "even + odd"))
    )
    found = replace(services.labelling.pool_files.snapshot(1), suspected=suspected)
    monkeypatch.setattr(services.labelling.pool_files, "snapshot", lambda _: found)
    return {one.task_id: one for one in suspected}


def test_suspect_sets_are_reviewed_in_ones_own_annotation_or_beside_that_of_others(
    services,
    stand_in,
    pages,
    sender,
    ann,
    suspect,
    several,  # noqa: F811
):
    page = pages.give(1, ann, "suspects")
    assert list(page.tasks) == list(suspect)
    assert pages.suggested(page) == {task: (one.given, one.suggested) for task, one in suspect.items()}
    own, others = page.tasks
    before = {task: held(stand_in, task) for task in page.tasks}
    labels = {own: ["above one", "one stroke"], others: list(label_set.split(several[others]))}
    pages.confirm(1, ann, page.id, labels, 20.0)
    assert sender.send(1)
    assert held(stand_in, own) == [(7, ["above one", "one stroke"])]
    assert held(stand_in, others) == [*before[others], (7, labels[others])]
    pages.undo(1, ann)
    assert sender.send(1)
    assert {task: held(stand_in, task) for task in page.tasks} == before


def test_a_round_suspects_a_set_that_is_wrong(services, stand_in, several, pages, ann, send):  # noqa: F811
    wrong = next(task for task in list(several)[:24] if several[task] == "even")
    body = stand_in.update(stand_in.tasks[wrong]["annotations"][0]["id"], None)
    for annotation in (body["annotation"], stand_in.tasks[wrong]["annotations"][0]):
        annotation["result"] = ticked("odd", "one stroke")
    send(body)
    services.loop.catch_up(1)
    page = pages.give(1, ann, "suspects")
    assert pages.suggested(page)[wrong] == ("odd + one stroke", "even")


@pytest.fixture
def disputed(services, stand_in, several, send):  # noqa: F811
    """The same, with a second label of the first six, by Bob: half of them another set. The newest round has weighed them."""
    tasks = list(several)[:6]
    for at, task in enumerate(tasks):
        names = ["odd", "one stroke", "above one"] if at % 2 else label_set.split(several[task])
        send(stand_in.annotate(task, None, result=ticked(*names), completed_by=8))
    services.loop.catch_up(1)
    return tasks


def test_of_crops_that_two_people_have_labelled_differently_each_class_is_weighed(
    services,
    several,  # noqa: F811
    disputed,
):
    decided = services.store.resolved_disagreements(1)
    assert {*decided} == {task for task in disputed[1::2] if several[task] != "above one + odd + one stroke"}
    said = {task: {*label_set.split(several[task])} for task in decided}
    for task, found in decided.items():
        assert said[task] & {"odd", "one stroke", "above one"} <= {*label_set.split(found.label)}, (
            "both say so"
        )
    right = [task for task, found in decided.items() if found.label == several[task]]
    assert len(right) > len(decided) / 2


def test_a_page_of_second_labels_gives_no_class_and_what_is_given_is_weighed_with_the_others(
    services,
    stand_in,
    pages,
    sender,
    ann,
    several,  # noqa: F811
    disputed,
):
    offered = pages.second_labels(1, ann)
    page = pages.give(1, ann, "second-labels")
    assert (len(page.tasks), page.class_name, page.preset) == (min(24, offered), None, {})
    assert {*page.tasks} & {*disputed[1::2]}, "those that two people differ on come first"
    task = page.tasks[0]
    before = held(stand_in, task)
    pages.confirm(1, ann, page.id, {task: list(label_set.split(several[task]))}, 20.0)
    assert sender.send(1)
    assert held(stand_in, task) == [*before, (7, sorted(label_set.split(several[task])))]
    assert pages.second_labels(1, ann) == offered - 1
    services.loop.catch_up(1)
    if task in services.store.resolved_disagreements(1):
        assert services.store.resolved_disagreements(1)[task].votes["7"] == several[task]


def test_how_often_each_person_is_right_is_known_of_whole_sets(services, several, disputed):  # noqa: F811
    quality = services.labelling.pool_files.snapshot(1).quality
    assert quality["1"] > quality["8"]
