"""A labelled task is asked for once more, and is as it was afterwards, whatever people do meanwhile."""

from __future__ import annotations

import pytest

from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.overlap import not_asked, overlap_of, serve_second_labels


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
