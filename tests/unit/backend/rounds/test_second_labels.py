"""Label Studio asks another person about the crops that one more label tells most of, now and then, and leads nobody."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import replace

import pytest

from everylabel.backend.label_studio.overlap import serve_second_labels
from everylabel.backend.label_studio.publisher import Queue
from everylabel.backend.page.galleries import galleries
from everylabel.backend.rounds import second_labels
from everylabel.backend.store import Store
from everylabel.scripts.commands.doctor import examine
from tests.unit.backend.rounds.test_runner import event

LABELLED = 24


@pytest.fixture
def chosen_by_us(stand_in, project):
    """Project 1 wants two labels of no crop in particular."""
    stand_in.projects[1] |= {"maximum_annotations": 2, "overlap_cohort_percentage": 0}


def give(stand_in, services, task, label, who):
    services.store.add_event(1, *event(stand_in.annotate(task, label, completed_by=who)))


def other(label):
    return str((int(label) + 1) % 4)


@pytest.fixture
def labelled(project, stand_in, services):
    """Twenty-four crops, labelled by two people in turn; no round has learned from them yet."""
    tasks = list(project)[:LABELLED]
    for at, task in enumerate(tasks):
        give(stand_in, services, task, project[task], 5 + at % 2)
    return tasks


@pytest.fixture
def disputed(labelled, project, stand_in, services):
    """The same, with a second label of the first four, two of them another one; then the four newest labels."""
    for at, task in enumerate(labelled[:4]):
        give(stand_in, services, task, (other if at % 2 else str)(project[task]), 6 - at % 2)
    for task in list(project)[LABELLED : LABELLED + 4]:
        give(stand_in, services, task, project[task], 5)
    return labelled


def latest_after_sync(services):
    services.loop.catch_up(1, compare=True)
    return services.store.latest_round(1)


def people(stand_in, task):
    return Counter(one["completed_by"] for one in stand_in.tasks[task]["annotations"])


def labelled_once(stand_in):
    return [task for task in stand_in.tasks if len(people(stand_in, task)) == 1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"maximum_annotations": 2, "overlap_cohort_percentage": 100},
        {"maximum_annotations": 1, "overlap_cohort_percentage": 0},
    ],
)
def test_elsewhere_nothing_is_asked_for(settings, disputed, stand_in, services):
    stand_in.projects[1] |= settings
    assert latest_after_sync(services).second_labels == ()
    assert not any("overlap" in task for task in stand_in.tasks.values())


def test_the_crop_that_one_more_label_tells_most_of_is_asked_for_without_a_prediction(
    chosen_by_us, disputed, stand_in, services
):
    latest = latest_after_sync(services)
    (asked,) = latest.second_labels
    worth = services.labelling.pool_files.snapshot(1).second_labels
    assert asked == next(task for task in worth if len(people(stand_in, task)) == 1)
    assert stand_in.tasks[asked]["overlap"] == 2
    assert not {task for task in stand_in.tasks if "overlap" in stand_in.tasks[task]} - {asked}
    parts = (latest.queue, latest.pre_annotated, latest.suspected, latest.emptied, latest.reserve)
    assert asked not in {task for part in parts for task in part}
    assert len(latest.batch) == 5, "it takes no place of a new crop"
    assert not [
        one
        for one in stand_in.predictions
        if one["task"] == asked and one["model_version"] == latest.model_version
    ]


def test_it_is_freed_by_its_label_and_the_next_comes_four_labels_later(
    chosen_by_us, disputed, project, stand_in, services
):
    (asked,) = latest_after_sync(services).second_labels
    new = [task for task in project if not stand_in.tasks[task]["annotations"]]
    give(stand_in, services, new[0], project[new[0]], 5)
    assert latest_after_sync(services).second_labels == (asked,), "until somebody gives it"
    (who,) = people(stand_in, asked)
    give(stand_in, services, asked, project[asked], 11 - who)
    served = []
    for task in new[1:6]:
        served.append(latest_after_sync(services).second_labels)
        give(stand_in, services, task, project[task], 5)
    assert served[:4] == [(), (), (), ()]
    assert len(served[4]) == 1
    assert served[4] != (asked,)
    assert len(people(stand_in, asked)) == 2


def test_with_three_labels_wanted_one_label_in_five_is_a_second_one(
    chosen_by_us, disputed, project, stand_in, services
):
    """A second label is followed by four of new crops, and not by a third one of the same crop."""
    stand_in.projects[1]["maximum_annotations"] = 3
    new = [task for task in project if not stand_in.tasks[task]["annotations"]]
    order = []
    for _ in range(15):
        asked = latest_after_sync(services).second_labels
        if asked:
            assert stand_in.tasks[asked[0]]["overlap"] == len(stand_in.tasks[asked[0]]["annotations"]) + 1
            who = next(person for person in (7, 6, 5) if person not in people(stand_in, asked[0]))
            give(stand_in, services, asked[0], project[asked[0]], who)
        else:
            task = new.pop(0)
            give(stand_in, services, task, project[task], 5 + len(order) % 2)
        order.append(bool(asked))
    assert order == [True, False, False, False, False] * 3


def test_of_two_that_are_asked_for_the_answered_one_is_over(
    chosen_by_us, disputed, project, stand_in, services
):
    stand_in.projects[1]["maximum_annotations"] = 3
    services.settings.batch_size = 10
    for task in [task for task in project if not stand_in.tasks[task]["annotations"]][:4]:
        give(stand_in, services, task, project[task], 6)
    asked, other_one = latest_after_sync(services).second_labels
    who = next(person for person in (7, 6, 5) if person not in people(stand_in, asked))
    give(stand_in, services, asked, project[asked], who)
    assert latest_after_sync(services).second_labels == (other_one,)
    elsewhere = next(task for task in labelled_once(stand_in) if task not in (asked, other_one))
    give(stand_in, services, elsewhere, project[elsewhere], 7)
    assert latest_after_sync(services).second_labels == (), "two of the last eight labels, from a tab or not"


def test_an_answered_crop_is_as_it_was(chosen_by_us, disputed, project, stand_in, services):
    """Else Label Studio would ask for all of them once three labels are wanted, and again when one is deleted."""
    (asked,) = latest_after_sync(services).second_labels
    assert not stand_in.tasks[asked]["is_labeled"]
    (who,) = people(stand_in, asked)
    give(stand_in, services, asked, project[asked], 11 - who)
    assert latest_after_sync(services).second_labels == ()
    assert stand_in.tasks[asked]["overlap"] == 1
    assert stand_in.tasks[asked]["is_labeled"]


def test_a_skipped_one_counts_as_labelled_again_also_if_label_studio_refuses_it_once(
    chosen_by_us, disputed, stand_in, services
):
    (asked,) = latest_after_sync(services).second_labels
    (who,) = people(stand_in, asked)
    skipped = stand_in.annotate(asked, None, completed_by=11 - who, was_cancelled=True)
    services.store.add_event(1, *event(skipped))
    stand_in.refused_tasks = {asked}
    assert latest_after_sync(services).second_labels != (asked,)
    assert stand_in.tasks[asked]["overlap"] == 2
    stand_in.refused_tasks = set()
    services.loop.catch_up(1, force=True)
    assert stand_in.tasks[asked]["overlap"] == 1
    assert stand_in.tasks[asked]["is_labeled"]


def test_a_refusal_costs_the_second_labels_alone(chosen_by_us, disputed, stand_in, services, caplog):
    stand_in.refused_tasks = {*stand_in.tasks}
    latest = latest_after_sync(services)
    assert latest.second_labels
    assert latest.published_at is not None
    assert services.store.project(1).problem is None
    assert "second labels are not asked for" in caplog.text
    assert services.loop.catch_up(1) is None, "nothing is left to publish"
    assert stand_in.projects[1]["model_version"] == latest.model_version
    stand_in.refused_tasks = set()
    services.loop.catch_up(1, force=True)
    assert stand_in.tasks[latest.second_labels[0]]["overlap"] == 2


def test_a_crop_that_only_somebody_away_could_label_makes_way(
    chosen_by_us, disputed, project, stand_in, services, monkeypatch
):
    monkeypatch.setattr(second_labels, "RECENT", 8)
    (asked,) = latest_after_sync(services).second_labels
    (who,) = people(stand_in, asked)  # the other one leaves
    new = [task for task in project if not stand_in.tasks[task]["annotations"]]
    for task in new[:8]:
        give(stand_in, services, task, project[task], who)
    (following,) = latest_after_sync(services).second_labels
    assert following != asked
    assert who not in people(stand_in, following)
    assert stand_in.tasks[asked]["is_labeled"]


def test_a_crop_that_is_asked_for_in_vain_makes_way(chosen_by_us, disputed, stand_in, services):
    """Somebody has it open, say, and keeps it."""
    asked = [latest_after_sync(services).second_labels]
    for _ in range(second_labels.ROUNDS):
        services.loop.catch_up(1, force=True)
        asked.append(services.store.latest_round(1).second_labels)
    assert asked[:-1] == [asked[0]] * second_labels.ROUNDS
    assert len(asked[-1]) == 1
    assert asked[-1] != asked[0]
    assert stand_in.tasks[asked[0][0]]["is_labeled"]


def test_once_every_crop_is_labelled_they_come_one_after_the_other(
    chosen_by_us, disputed, project, stand_in, services
):
    for at, task in enumerate(project):
        if not stand_in.tasks[task]["annotations"]:
            give(stand_in, services, task, project[task], 5 + at % 2)
    asked = latest_after_sync(services).second_labels
    assert len(asked) == 5
    version = stand_in.projects[1]["model_version"]
    for task in asked:
        assert not stand_in.tasks[task]["is_labeled"]
        assert version not in {p["model_version"] for p in stand_in.predictions if p["task"] == task}
        (who,) = people(stand_in, task)
        give(stand_in, services, task, project[task], 11 - who)
    following = latest_after_sync(services).second_labels
    assert len(following) == 5
    assert not {*following} & {*asked}


def test_nothing_is_asked_of_one_person_alone(chosen_by_us, project, stand_in, services):
    for at, task in enumerate(list(project)[:LABELLED]):
        give(stand_in, services, task, other(project[task]) if at % 8 == 0 else project[task], 5)
    latest = latest_after_sync(services)
    assert latest.suspected, "there would be some to ask for"
    assert latest.second_labels == ()


def test_before_anybody_disagrees_it_is_the_most_suspect_label(chosen_by_us, project, stand_in, services):
    """In a project that asks one person a crop, nobody would ever disagree."""
    for at, task in enumerate(list(project)[:32]):
        give(stand_in, services, task, other(project[task]) if at % 8 == 7 else project[task], 5 + at % 2)
    latest = latest_after_sync(services)
    suspected = services.labelling.pool_files.snapshot(1).suspected
    assert suspected
    assert latest.second_labels == (suspected[0].task_id,)
    asked = suspected[0].task_id
    assert asked not in latest.suspected, "its suggestion would lead the second person"
    given = {one.task_id: one.given for one in suspected}
    shown = galleries(latest, services.labelling.pool_files.snapshot(1), None, given, ())
    assert {one.task_id for one in shown.suspects} == {*given} - {asked}
    assert services.labelling.pages.progress(1).suspects == len(suspected) - 1
    (kept,) = stand_in.tasks[asked]["annotations"]
    services.store.add_event(1, *event(stand_in.update(kept["id"], suspected[0].given)))
    assert latest_after_sync(services).confirmed == {asked: suspected[0].given}, "a review, as in the tab"


@pytest.fixture
def suspect(project, stand_in, services):
    """A project that asks two people about every crop, of which one has labelled 32; a label of theirs looks wrong."""
    stand_in.projects[1] |= {"maximum_annotations": 2, "overlap_cohort_percentage": 100}
    for task in stand_in.tasks.values():
        task["overlap"] = 2
    for at, task in enumerate(list(project)[:32]):
        give(stand_in, services, task, other(project[task]) if at % 8 == 7 else project[task], 5)
    latest = latest_after_sync(services)
    assert latest.suspected
    return latest.suspected[0]


def suggested_in(stand_in, latest):
    written = [one for one in stand_in.predictions if one["model_version"] == latest.model_version]
    return {one["task"] for one in written if one["result"]}


def tab_of_suspects(stand_in):
    (tab,) = [tab for tab in stand_in.tabs.values() if tab["data"]["title"] == "Suspect labels"]
    return {item["value"] for item in tab["data"]["filters"]["items"]} - {0}


def test_where_label_studio_asks_of_every_crop_nothing_is_suggested_before_all_have_labelled_it(
    suspect, project, stand_in, services
):
    """Its form would show the suggestion to the second person, who is to label it unaware."""
    latest = services.store.latest_round(1)
    assert suggested_in(stand_in, latest) & {*stand_in.annotated()} == set()
    assert tab_of_suspects(stand_in) == set()
    assert stand_in.projects[1]["model_version"] == latest.model_version
    (kept,) = stand_in.tasks[suspect]["annotations"]
    give(stand_in, services, suspect, kept["result"][0]["value"]["choices"][0], 6)
    latest = latest_after_sync(services)
    assert suspect in latest.confirmed, "the second person's label is the review"
    assert suspect not in tab_of_suspects(stand_in)


def test_a_suspect_label_that_nobody_is_asked_about_is_shown(suspect, stand_in, services):
    stand_in.projects[1] |= {"maximum_annotations": 2, "overlap_cohort_percentage": 20}
    stand_in.tasks[suspect]["overlap"] = 1  # not one of those that Label Studio has picked
    services.loop.catch_up(1, compare=True, force=True)
    latest = services.store.latest_round(1)
    assert tab_of_suspects(stand_in) == {suspect} == suggested_in(stand_in, latest) & {*stand_in.annotated()}


def test_a_skipped_crop_one_of_a_spot_check_and_a_check_crop_are_not_asked_for(
    chosen_by_us, disputed, stand_in, services, monkeypatch
):
    first = latest_after_sync(services).second_labels
    (who,) = people(stand_in, first[0])
    skipped = stand_in.annotate(first[0], None, completed_by=11 - who, was_cancelled=True)
    services.store.add_event(1, *event(skipped))
    second = latest_after_sync(services).second_labels
    assert second
    assert first != second
    monkeypatch.setattr(services.store, "looked_at", lambda _: {*second})
    services.loop.catch_up(1, force=True)
    third = services.store.latest_round(1).second_labels
    assert third
    assert third not in (first, second)
    services.store.save_project(1, check_tasks=third)
    services.loop.catch_up(1, force=True)
    assert services.store.latest_round(1).second_labels not in (first, second, third)


def test_what_is_asked_for_is_asked_for_again_where_label_studio_has_forgotten_it(
    chosen_by_us, disputed, stand_in, services
):
    (asked,) = latest_after_sync(services).second_labels
    changes = stand_in.calls.count(("PATCH", f"/api/tasks/{asked}/"))
    services.loop.catch_up(1, force=True)
    assert stand_in.calls.count(("PATCH", f"/api/tasks/{asked}/")) == changes == 1
    stand_in.tasks[asked] |= {"overlap": 1, "is_labeled": True}  # as an import of tasks does
    services.loop.catch_up(1, force=True)
    assert stand_in.tasks[asked]["overlap"] == 2


def test_doctor_names_what_label_studio_asks_nobody_about(chosen_by_us, disputed, stand_in, services):
    def told():
        found = {finding.check: finding for finding in examine(services, 1)}
        return found.get("Second labels")

    assert "the next round asks" in told().detail, "no round has asked for any yet"
    (asked,) = latest_after_sync(services).second_labels
    assert told().problem is None
    stand_in.tasks[asked] |= {"overlap": 1, "is_labeled": True}
    assert f"task {asked}, and Label Studio asks nobody" in told().problem
    services.store.add_event(1, "START_TRAINING", {})
    assert told().problem is None, "the round that mends it is due"


def test_a_setting_that_changed_since_the_round_is_heeded(chosen_by_us, disputed, stand_in, services):
    (asked,) = latest_after_sync(services).second_labels
    stand_in.tasks[asked]["overlap"] = 1
    stand_in.projects[1]["maximum_annotations"] = 1
    services.loop.catch_up(1, force=True)
    assert stand_in.tasks[asked]["overlap"] == 1
    services.loop.catch_up(1, compare=True, force=True)
    assert services.store.latest_round(1).second_labels == ()


def test_a_task_that_has_its_labels_by_now_stays_as_it_is(chosen_by_us, disputed, stand_in, services):
    done = disputed[0]
    serve_second_labels(services.label_studio, 1, [done], [])
    assert "overlap" not in stand_in.tasks[done]


def test_a_store_and_a_queue_of_an_earlier_version_have_none(services, project):
    latest = services.store.latest_round(1)
    services.store.save_round(1, replace(latest, second_labels=(3, 4)), ())
    assert services.store.latest_round(1).second_labels == (3, 4)
    with sqlite3.connect(services.settings.model_dir / "everylabel.db") as database:
        database.execute("ALTER TABLE projects DROP COLUMN overlap")
        database.execute("UPDATE rounds SET record = json_remove(record, '$.second_labels')")
    database.close()
    store = Store(f"sqlite:///{services.settings.model_dir / 'everylabel.db'}")
    assert store.project(1).overlap == 1
    assert store.latest_round(1) == replace(latest, second_labels=())
    store.close()
    parts = ("check", "batch", "pre_annotated", "flagged")
    assert not Queue.of({"model_version": "round 1", **{part: [] for part in parts}}).second_labels
