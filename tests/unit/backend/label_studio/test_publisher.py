"""What a round writes into Label Studio, and in which order it is served."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.backend.label_studio.label_config import ImageChoices
from everylabel.backend.label_studio.publisher import (
    NEXT_BATCH,
    PRE_ANNOTATED,
    SUSPECTS,
    Publisher,
    Queue,
    QueuedCrop,
    predictions,
)
from everylabel.backend.rounds import bulk_accept

CONTROL = ImageChoices("digit", "image", "image", ("0", "1"))


def queue(number=1, check=(), batch=(), pre_annotated=(), suspected=(), reserve=()):
    return Queue(f"round {number}", check, batch, pre_annotated, suspected, reserve=reserve)


def crop(task, confidence, label=None):
    return QueuedCrop(task, label, confidence)


@pytest.fixture
def publisher(stand_in):
    stand_in.add_project(1)
    stand_in.add_tasks(1, *(f"{i}.png" for i in range(12)))
    client = LabelStudio(stand_in.url, stand_in.token)
    yield Publisher(client)
    client.close()


def test_blind_check_crops_come_first_then_the_batch_the_confident_ones_and_the_reserve(stand_in, publisher):
    publisher.publish(
        1,
        queue(
            check=[crop(5, 0.0), crop(6, 0.0)],
            batch=[crop(3, 0.4), crop(1, 0.55)],
            pre_annotated=[crop(8, 0.9, "1"), crop(7, 0.99, "0")],
            suspected=[crop(9, 0.7, "1")],
            reserve=[crop(2, 0.0), crop(4, 0.0)],
        ),
        CONTROL,
    )
    assert [task for task in stand_in.queue(1) if task != 9] == [5, 6, 3, 1, 8, 7, 2, 4]
    by_task = {p["task"]: p for p in stand_in.predictions}
    assert by_task[5]["score"] == 0
    assert all(by_task[task]["result"] == [] for task in (5, 6, 3, 1, 2, 4))
    assert by_task[8]["result"] == CONTROL.result("1")
    assert {p["model_version"] for p in stand_in.predictions} == {"round 1"}
    assert stand_in.projects[1]["sampling"] == "Uncertainty sampling"
    assert stand_in.projects[1]["model_version"] == "round 1"
    assert stand_in.projects[1]["show_collab_predictions"] is True


@given(
    st.lists(st.just(0.0), max_size=3),
    st.lists(st.floats(0, 1) | st.sampled_from([0.5, 0.5000005, 0.1234565, 1.0]), max_size=8),
    st.lists(st.floats(0.7, 1) | st.just(1.0), max_size=8),
)
def test_scores_rise_strictly_in_the_order_of_serving_whatever_the_confidences(check, batch, confident):
    parts = [[crop(i, c) for i, c in enumerate(sorted(part))] for part in (check, batch, confident)]
    scores = [p["score"] for p in predictions(queue(1, *parts, reserve=parts[1]), CONTROL)]
    assert all(lower < higher for lower, higher in itertools.pairwise(scores))


def test_before_there_is_a_model_the_strategys_own_order_is_kept():
    written = predictions(queue(batch=[crop(9, 0.0), crop(2, 0.0), crop(5, 0.0)]), CONTROL)
    assert [p["task"] for p in sorted(written, key=lambda p: p["score"])] == [9, 2, 5]


def test_a_queue_label_studio_refuses_leaves_the_old_one_in_place(stand_in, publisher):
    publisher.publish(1, queue(1, batch=[crop(1, 0.5), crop(2, 0.6)]), CONTROL)
    with pytest.raises(LabelStudioError):
        publisher.publish(1, queue(2, batch=[crop(3, 0.5), crop(999, 0.6)]), CONTROL)
    assert stand_in.projects[1]["model_version"] == "round 1"
    assert stand_in.queue(1) == [1, 2]


def test_an_empty_queue_writes_nothing(stand_in, publisher):
    publisher.publish(1, queue(), CONTROL)
    assert stand_in.predictions == []
    assert stand_in.projects[1]["model_version"] == ""


def test_the_tabs_stand_beside_a_plain_one_and_are_refreshed_not_doubled(stand_in, publisher):
    first = queue(1, check=[crop(5, 0)], batch=[crop(1, 0.5)], pre_annotated=[crop(7, 0.9, "1")])
    for shown in (first, first, queue(2, batch=[crop(2, 0.5)], suspected=[crop(3, 0.8, "1")])):
        publisher.save_tabs(1, shown)
    titles = [tab["data"]["title"] for tab in stand_in.tabs.values()]
    assert sorted(titles) == sorted(["Default", NEXT_BATCH, PRE_ANNOTATED, SUSPECTS])
    assert "filters" not in stand_in.tabs[1]["data"], "the plain tab comes first and shows everything"
    assert "tasks:predictions_score" in stand_in.tabs[1]["data"]["hiddenColumns"]["explore"]
    assert tasks_of(stand_in, NEXT_BATCH) == {2}
    assert tasks_of(stand_in, SUSPECTS) == {3}
    assert not tasks_of(stand_in, PRE_ANNOTATED) & set(stand_in.tasks), "an empty part shows no task"


def test_what_a_person_changed_in_a_tab_of_ours_stays(stand_in, publisher):
    publisher.save_tabs(1, queue(1, batch=[crop(1, 0.5)]))
    tab = next(t for t in stand_in.tabs.values() if t["data"]["title"] == NEXT_BATCH)
    tab["data"] = tab["data"] | {"gridWidth": 9, "hiddenColumns": {"explore": ["tasks:id"]}}
    tab["data"]["filters"]["items"].append(
        {"filter": "filter:tasks:predictions_model_versions", "operator": "contains", "value": ["round 3"]}
    )
    publisher.save_tabs(1, queue(2, batch=[crop(2, 0.5)]))
    assert tasks_of(stand_in, NEXT_BATCH) == {2}
    assert tab["data"]["gridWidth"] == 9
    assert tab["data"]["hiddenColumns"] == {"explore": ["tasks:id"]}


def tab_of(stand_in, title):
    (tab,) = [t for t in stand_in.tabs.values() if t["data"]["title"] == title]
    return tab["data"]


LISTS = [(PRE_ANNOTATED, "pre_annotated"), (SUSPECTS, "suspected")]


@pytest.mark.parametrize(
    ("former", "title", "part"),
    [*((title, title, part) for title, part in LISTS), ("Pseudo-labels to check", *LISTS[0])],
)
def test_an_earlier_versions_grid_of_classes_becomes_a_list_once(stand_in, publisher, former, title, part):
    shown = queue(1, **{part: [crop(3, 0.9, "1")]})
    publisher.save_tabs(1, shown)
    tab_of(stand_in, title).update(title=former, type="grid", gridWidth=5, ordering=["tasks:id"])
    publisher.save_tabs(1, shown)
    assert tab_of(stand_in, title)["type"] == "list"
    assert tab_of(stand_in, title)["ordering"] == ["tasks:id"], "the rest stays as it is arranged"
    tab_of(stand_in, title)["type"] = "grid"  # as Label Studio's own switch does
    publisher.save_tabs(1, queue(2, **{part: [crop(4, 0.9, "1")]}))
    assert tab_of(stand_in, title)["type"] == "grid", "somebody wants it so"
    assert tasks_of(stand_in, title) == {4}


@pytest.mark.parametrize(("title", "part"), LISTS)
def test_a_grid_of_classes_that_somebody_arranged_stays_a_grid(stand_in, publisher, title, part):
    publisher.save_tabs(1, queue(1, **{part: [crop(3, 0.9, "1")]}))
    tab_of(stand_in, title).update(type="grid", gridWidth=7)
    publisher.save_tabs(1, queue(2, **{part: [crop(4, 0.9, "1")]}))
    assert (tab_of(stand_in, title)["type"], tab_of(stand_in, title)["gridWidth"]) == ("grid", 7)


@pytest.mark.parametrize("title", ["Suspected labels", "Possible label errors"])
def test_a_tab_that_had_another_name_is_renamed_not_doubled(stand_in, publisher, title):
    items = [{"filter": "filter:tasks:id", "operator": "equal", "type": "Number", "value": 3}]
    former = {"title": title, "type": "grid", "gridWidth": 7, "filters": {"items": items}}
    publisher._label_studio.save_tab(None, 1, former)
    publisher.save_tabs(1, queue(1, suspected=[crop(3, 0.8, "1")]))
    (tab,) = [t for t in stand_in.tabs.values() if t["data"].get("gridWidth") == 7]
    assert tab["data"]["title"] == SUSPECTS
    assert tasks_of(stand_in, SUSPECTS) == {3}
    assert len([t for t in stand_in.tabs.values() if t["data"]["title"] == SUSPECTS]) == 1


@pytest.mark.parametrize("title", ["Bulk-accepted", "Accepted in bulk"])
def test_the_tab_of_accepted_crops_is_there_once_whatever_it_was_called(stand_in, publisher, title):
    label_studio = publisher._label_studio
    label_studio.save_tab(None, 1, {"title": title, "type": "grid", "gridWidth": 7})
    bulk_accept.save_tab(label_studio, 1)
    bulk_accept.save_tab(label_studio, 1)
    (tab,) = [t["data"] for t in stand_in.tabs.values()]
    assert (tab["title"], tab["gridWidth"]) == ("Bulk-accepted", 7)


def test_a_list_of_suspected_labels_shows_what_was_given_and_what_is_suggested(stand_in, publisher):
    publisher.save_tabs(1, queue(1, suspected=[crop(3, 0.8, "1")]))
    (tab,) = [t for t in stand_in.tabs.values() if t["data"]["title"] == SUSPECTS]
    hidden = tab["data"]["hiddenColumns"]["explore"]
    assert "tasks:inner_id" in hidden
    assert not {"tasks:annotations_results", "tasks:predictions_results"} & set(hidden)
    assert next(iter(CONTROL.result("1")[0])) == "value", (
        "the class is among the letters a table has room for"
    )


def tasks_of(stand_in, title):
    tab = next(t for t in stand_in.tabs.values() if t["data"]["title"] == title)
    return {item["value"] for item in tab["data"]["filters"]["items"]}


def test_old_versions_are_cleaned_up_a_few_at_a_time_and_only_ours(stand_in, publisher):
    for number in range(1, 6):
        publisher.publish(1, queue(number, batch=[crop(number, 0.5)]), CONTROL)
    stand_in.predictions.append({"task": 6, "model_version": "their own model", "score": 1, "result": []})
    assert publisher.clean_up(1, ["round 5"], at_most=2, up_to=5) == 2
    left = {p["model_version"] for p in stand_in.predictions}
    assert left == {"round 3", "round 4", "round 5", "their own model"}


def test_a_round_published_while_versions_are_cleaned_up_stays(stand_in, publisher):
    for number in (1, 2):
        publisher.publish(1, queue(number, batch=[crop(number, 0.5)]), CONTROL)
    publisher.publish(1, queue(3, batch=[crop(3, 0.5)]), CONTROL)  # after it was decided what to keep
    assert publisher.clean_up(1, ["round 2"], at_most=9, up_to=2) == 1
    assert {p["model_version"] for p in stand_in.predictions} == {"round 2", "round 3"}
    assert stand_in.projects[1]["model_version"] == "round 3"
