"""An annotation without a class: a skip for the queue, never a review, and the label it had is not forgotten."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from everylabel.backend.label_studio import webhooks
from everylabel.backend.label_studio.label_config import parse
from everylabel.backend.label_studio.publisher import SUSPECTS, Queue
from everylabel.backend.page.figures import RoundLog, read_figures
from everylabel.backend.rounds import empty_annotations
from everylabel.backend.rounds.labels import closed_tasks, counted_annotations, resolve_labels
from everylabel.backend.rounds.runner import confirmed_labels
from everylabel.backend.store import Annotation, Store
from everylabel.scripts.cli import app
from everylabel.scripts.commands.doctor import examine
from tests.stand_in_label_studio import choice
from tests.unit.backend.rounds.test_runner import flagging

CLASSES = ("a", "b")


def annotation(id_, task, choice, second=None, **fields):
    at = f"2026-01-01T00:00:{id_ if second is None else second:02d}Z"
    return Annotation(id_, task, 1, choice, fields.pop("cancelled", False), at, **fields)


@pytest.fixture
def learn(services):
    """Take webhooks in and run the round that is due."""

    def take(*bodies):
        for body in bodies:
            services.store.add_event(1, body["action"], webhooks.read(body).kept())
        services.loop.catch_up(1)
        return services.store.latest_round(1)

    return take


@pytest.fixture
def labelled(stand_in, project, learn):
    """Label the first crops as they are served; their annotations' ids by task."""

    def label(count):
        for _ in range(count):
            task = stand_in.queue(1)[0]
            learn(stand_in.annotate(task, project[task]))
        return {
            id_: task["annotations"][-1]["id"] for id_, task in stand_in.tasks.items() if task["annotations"]
        }

    return label


# --- the store


def test_a_label_that_becomes_empty_is_remembered_until_there_is_another(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'everylabel.db'}")
    store.save_project(1)
    formers = []
    for second, given in enumerate((None, "a", None, None, "b", None)):
        store.save_annotations(1, [annotation(1, 7, given, second)])
        formers += [(a.choice, a.former) for a in store.annotations(1)]
    store.close()
    assert formers == [(None, None), ("a", None), (None, "a"), (None, "a"), ("b", None), (None, "b")]


def test_it_is_remembered_when_the_webhooks_come_in_the_wrong_order_or_were_lost(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'everylabel.db'}")
    store.save_project(1)
    store.save_annotations(1, [annotation(1, 7, None, 9), annotation(1, 7, "a", 3), annotation(2, 8, "b")])
    store.save_annotations(1, [annotation(2, 8, None, 9)], as_read=True)
    assert [(a.choice, a.former) for a in store.annotations(1)] == [(None, "a"), (None, "b")]
    store.close()


def test_a_round_that_an_earlier_version_left_unpublished_is_still_read():
    crop = {"task_id": 4, "label": "a", "confidence": 0.9}
    stored = {"model_version": "round 1", "check": (), "batch": (), "pre_annotated": (), "flagged": (crop,)}
    assert [one.task_id for one in Queue.of(stored).suspected] == [4]


# --- what counts


def test_empty_annotations_are_listed_those_that_had_a_label_first():
    given = [
        annotation(1, 1, None),
        annotation(2, 2, None, former="a"),
        annotation(3, 3, "gone"),
        annotation(4, 4, None, cancelled=True),
        annotation(5, 5, "a"),
        annotation(6, 5, None),  # a second submit of a labelled crop loses nothing
        annotation(7, 5, None, former="b"),
    ]
    labels = resolve_labels(given, CLASSES, {})
    found = empty_annotations.empty_annotations(given, labels, CLASSES)
    assert [(one.task_id, one.former) for one in found] == [(2, "a"), (3, "gone"), (5, "b"), (1, None)]
    assert empty_annotations.counted_in_words(found) == "4 without a class, 3 of which had a label"
    assert empty_annotations.named(found).startswith("task 2 (was a), task 3 (was gone)")
    assert closed_tasks(given, labels) == {1, 2, 3, 4}


def test_an_empty_annotation_reviews_nothing():
    given = annotation(1, 7, "a", 1)
    suspected = flagging(1, (7,), {7: given.updated_at})
    others = annotation(2, 7, None, 5)
    assert confirmed_labels(suspected, counted_annotations([given, others], CLASSES), {7: "a"}) == {}
    emptied = annotation(1, 7, None, 5, former="a")
    assert confirmed_labels(suspected, counted_annotations([emptied], CLASSES), {}) == {}


def test_with_several_classes_nothing_ticked_says_nothing_and_the_way_out_is_another():
    config = (
        '<View><Image name="image" value="$image"/><Choices name="c" toName="image" choice="{}">'
        '<Choice value="crack"/><Choice value="dirt"/></Choices></View>'
    )
    several, single = parse(config.format("multiple")), parse(config.format("single"))
    assert several.choice([{"from_name": "c", "value": {"choices": []}}]) is None
    given = [annotation(1, 1, None), annotation(2, 2, None, former="crack + dirt")]
    assert empty_annotations.former_labels(given, {}, several) == {2: "crack + dirt"}
    assert "none of these" in empty_annotations.way_out(several)
    assert "required" in empty_annotations.way_out(single)


# --- the loop


def test_crops_annotated_without_a_class_leave_the_batch_and_the_stream_goes_on(stand_in, project, learn):
    asked = stand_in.queue(1)
    for task in asked[:4]:
        latest = learn(stand_in.annotate(task, None))
        assert set(latest.queue) <= set(stand_in.queue(1)), "a crop is asked for that is not served"
    assert len(latest.batch) == 5
    assert latest.n_labels == 0
    assert not {*asked[:4]} & {*latest.queue, *latest.pre_annotated}


def test_a_blind_check_crop_without_a_class_is_drawn_anew_and_counts_once_it_has_one(
    stand_in, services, project, learn, labelled
):
    labelled(8)
    while not (waiting := services.store.latest_round(1).check):
        labelled(1)
    drawn = waiting[0]
    body = stand_in.annotate(drawn, None)
    after = learn(body)
    assert drawn not in after.check
    assert len(after.check) == len(waiting), "its place stays empty"
    n = 0 if after.check_set is None else after.check_set["n"]
    again = learn(stand_in.update(body["annotation"]["id"], project[drawn]))
    assert again.check_set["n"] == n + 1


def test_a_suspected_label_that_becomes_empty_waits_with_the_label_it_had(
    stand_in, services, project, learn, labelled
):
    given = labelled(24)
    for task in list(given)[:3]:
        wrong = next(name for name in "0123" if name != project[task])
        learn(stand_in.update(given[task], wrong))
    suspect = services.store.latest_round(1).suspected[0]
    held = next(a.choice for a in services.store.annotations(1) if a.task_id == suspect)

    after = learn(stand_in.update(given[suspect], None))

    assert suspect not in after.confirmed
    assert after.emptied == (suspect,)
    shown = [
        p["result"]
        for p in stand_in.predictions
        if (p["task"], p["model_version"]) == (suspect, after.model_version)
    ]
    assert [result[0]["value"]["choices"] for result in shown] == [[held]]
    (tab,) = [tab for tab in stand_in.tabs.values() if tab["data"]["title"] == SUSPECTS]
    assert suspect in {item["value"] for item in tab["data"]["filters"]["items"]}
    assert suspect not in stand_in.queue(1)
    figures = read_figures(services.store, RoundLog(), 1, services.store.state(1), trainer_alive=True)
    assert [(one.task_id, one.former) for one in figures.empty] == [(suspect, held)]

    back = learn(stand_in.update(given[suspect], held))
    assert back.emptied == ()
    assert back.n_labels == 24


def test_the_page_knows_it_before_the_round(stand_in, services, project, labelled):
    given = labelled(2)
    task = next(iter(given))
    body = stand_in.update(given[task], None)
    services.store.add_event(1, body["action"], webhooks.read(body).kept())
    figures = read_figures(services.store, RoundLog(), 1, services.store.state(1), trainer_alive=True)
    assert [(one.task_id, one.former) for one in figures.empty] == [(task, project[task])]


# --- what the owner is told


def problems(services):
    return {found.check: found.problem for found in examine(services, 1) if found.problem}


def test_doctor_and_status_name_the_crops_and_the_labels_they_had(
    stand_in, services, project, learn, labelled, monkeypatch
):
    assert "Annotations" not in problems(services)
    given = labelled(3)
    task, other = list(given)[:2]
    learn(stand_in.update(given[task], None), stand_in.update(given[other], None))
    told = problems(services)["Annotations"]
    assert "2 without a class, 2 of which had a label" in told
    assert f"task {task} (was {project[task]})" in told
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(app, ["status", "--project", "1"]).output
    assert f"task {task} (was {project[task]})" in shown
    assert "Label stream" not in problems(services)


def test_doctor_compares_the_batch_with_what_is_served(stand_in, services, project):
    (whole,) = [found for found in examine(services, 1) if found.check == "Label stream"]
    assert whole.problem is None
    asked = services.store.latest_round(1).queue
    stand_in.annotate(asked[0], None)
    stand_in.annotate(asked[1], None, was_cancelled=True)
    del stand_in.tasks[asked[2]]
    told = problems(services)["Label stream"]
    assert "3 of the 5" in told
    assert f"task {asked[0]} (somebody has annotated it)" in told
    assert f"task {asked[1]} (somebody has skipped it)" in told
    assert f"task {asked[2]} (it is gone)" in told
    services.store.add_event(1, "START_TRAINING", {})
    assert "Label stream" not in problems(services), "the round that mends it is due"


def test_a_choice_of_ours_is_not_empty(stand_in, services, project, learn):
    task = stand_in.queue(1)[0]
    learn(stand_in.annotate(task, None, result=choice("2", from_name="another")))
    assert services.store.latest_round(1).n_labels == 0
    assert task not in services.store.latest_round(1).queue
