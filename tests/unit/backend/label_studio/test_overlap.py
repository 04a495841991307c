"""A labelled task is asked for once more, and is as it was afterwards, whatever people do meanwhile."""

from __future__ import annotations

import pytest

from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.overlap import (
    ask_one_person,
    leave_choice_open,
    not_asked,
    overlap_of,
    own_overlap_of,
    serve_second_labels,
)


@pytest.fixture
def client(stand_in):
    stand_in.add_project(1)
    stand_in.projects[1] |= {"maximum_annotations": 3, "overlap_cohort_percentage": 0}
    stand_in.add_tasks(1, "a.png", "b.png", "c.png")
    stand_in.annotate(1, "3", completed_by=5)
    client = LabelStudio(stand_in.url, stand_in.token)
    yield client
    client.close()


def state(stand_in, task=1):
    kept = stand_in.tasks[task]
    return kept.get("overlap", 1), kept.get("is_labeled")


def test_only_a_project_that_leaves_the_choice_open_has_it_made():
    assert overlap_of({}) == 1
    assert overlap_of({"maximum_annotations": 3, "overlap_cohort_percentage": 100}) == 1, (
        "asked of every crop"
    )
    assert overlap_of({"maximum_annotations": 3, "overlap_cohort_percentage": 20}) == 1, "of those it picked"
    assert overlap_of({"maximum_annotations": 1, "overlap_cohort_percentage": 0}) == 1
    assert overlap_of({"maximum_annotations": 3, "overlap_cohort_percentage": 0}) == 3


def test_it_is_asked_of_one_more_person_however_many_the_project_wants(client, stand_in):
    serve_second_labels(client, 1, [1], [])
    assert state(stand_in) == (2, False)
    assert not_asked(client, 1, [1, 2]) == [2]
    stand_in.annotate(1, "3", completed_by=6)
    serve_second_labels(client, 1, [1], [])
    assert state(stand_in) == (1, True), "the round did not know of that label yet"
    serve_second_labels(client, 1, [1], [])
    assert state(stand_in) == (3, False)


def test_two_labels_of_one_person_are_two(client, stand_in):
    """Label Studio has it locked by as many annotations as people are wanted, whoever gave them."""
    stand_in.annotate(1, "4", completed_by=5)
    serve_second_labels(client, 1, [1], [])
    assert state(stand_in) == (3, False)


def test_it_is_labelled_again_where_somebody_submits_in_that_instant(client, stand_in):
    """Label Studio has read the task by then, and saves it as unlabelled."""
    submitted = []

    def submit(task):
        if not submitted:
            submitted.append(stand_in.annotate(task, "3", completed_by=6))

    stand_in.before_task_change = submit
    serve_second_labels(client, 1, [1], [])
    assert state(stand_in) == (1, True)


def test_one_whose_labels_are_deleted_is_for_everybody_again(client, stand_in):
    serve_second_labels(client, 1, [1], [])
    del stand_in.tasks[1]["annotations"][:]
    serve_second_labels(client, 1, [1], [])
    assert state(stand_in) == (1, False)
    assert not_asked(client, 1, [1]) == [1]


def test_a_skip_counts_where_the_project_ignores_skipped_crops(client, stand_in):
    stand_in.projects[1]["skip_queue"] = "IGNORE_SKIPPED"
    serve_second_labels(client, 1, [1], [])
    stand_in.annotate(1, None, completed_by=6, was_cancelled=True)
    serve_second_labels(client, 1, [1], [])
    assert state(stand_in) == (1, True)


def test_nothing_is_changed_twice_and_nothing_read_where_nothing_is_asked(client, stand_in):
    serve_second_labels(client, 1, [], [])
    assert not stand_in.calls
    for _ in range(2):
        serve_second_labels(client, 1, [1], [2])
    assert stand_in.calls.count(("PATCH", "/api/tasks/1/")) == 1
    assert ("PATCH", "/api/tasks/2/") not in stand_in.calls


def test_a_project_that_changed_since_is_left_alone(client, stand_in):
    serve_second_labels(client, 1, [1], [])
    stand_in.projects[1]["overlap_cohort_percentage"] = 100
    serve_second_labels(client, 1, [2], [1])
    assert state(stand_in) == (2, False)


def test_the_prediction_that_its_form_would_show_goes(client, stand_in):
    """The last round may have asked for its first label, and a round without crops is no new version."""
    for version in ("round 2", "round 3", "accepted, round 2"):
        stand_in.predictions.append({"task": 1, "model_version": version, "score": 0.5, "result": []})
    stand_in.projects[1]["model_version"] = "round 3"
    serve_second_labels(client, 1, [1], [])
    assert [p["model_version"] for p in stand_in.predictions] == ["round 2", "accepted, round 2"]


def test_where_label_studio_picks_them_itself_it_is_told_of_how_many_people():
    assert own_overlap_of({}) == 1
    assert own_overlap_of({"maximum_annotations": 1, "overlap_cohort_percentage": 100}) == 1
    assert own_overlap_of({"maximum_annotations": 3, "overlap_cohort_percentage": 100}) == 3
    assert own_overlap_of({"maximum_annotations": 3, "overlap_cohort_percentage": 20}) == 3
    assert own_overlap_of({"maximum_annotations": 3, "overlap_cohort_percentage": 0}) == 1


def served_to(stand_in, person):
    """The tasks that Label Studio would serve to a person because others have labelled them."""
    told = [stand_in._with_counts(task) for task in stand_in.tasks.values()]
    others = [task for task in told if task["annotations"] and not task["is_labeled"]]
    return [
        task["id"]
        for task in others
        if person not in {annotation["completed_by"] for annotation in task["annotations"]}
    ]


def settings(stand_in):
    kept = stand_in.projects[1]
    return kept["maximum_annotations"], kept["overlap_cohort_percentage"]


@pytest.mark.parametrize("before", [(1, 100), (1, 0), (2, 100), (2, 20), (2, 0), (4, 0)])
def test_with_the_choice_left_open_nobody_is_asked_again_until_a_round_says_so(client, stand_in, before):
    stand_in.projects[1] |= dict(
        zip(("maximum_annotations", "overlap_cohort_percentage"), before, strict=True)
    )
    stand_in.annotate(2, "3", completed_by=5)
    stand_in.annotate(2, "3", completed_by=6)
    for task in stand_in.tasks.values():  # as an import of tasks, or an earlier round, has left it
        task["overlap"] = min(before[0], max(1, len(task["annotations"])))
    was = leave_choice_open(client, 1, 3)
    assert (was["maximum_annotations"], was["overlap_cohort_percentage"]) == before
    assert settings(stand_in) == (3, 0)
    assert served_to(stand_in, 7) == []
    serve_second_labels(client, 1, [1], [])
    assert served_to(stand_in, 7) == [1]


def test_what_is_set_already_is_not_set_again(client, stand_in):
    serve_second_labels(client, 1, [1], [])
    assert leave_choice_open(client, 1, 3) is None
    assert ("PATCH", "/api/projects/1/") not in stand_in.calls
    assert state(stand_in) == (2, False), "and is asked for still"


def test_one_person_is_asked_again_where_the_choice_was_left_open(client, stand_in):
    serve_second_labels(client, 1, [1], [])
    assert ask_one_person(client, 1)
    assert settings(stand_in) == (1, 100)
    assert served_to(stand_in, 7) == []
    assert not ask_one_person(client, 1)


def test_what_label_studio_picks_itself_is_not_turned_off(client, stand_in):
    stand_in.projects[1]["overlap_cohort_percentage"] = 100
    assert not ask_one_person(client, 1)
    assert settings(stand_in) == (3, 100)
