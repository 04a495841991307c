"""Superseded rounds do not pile up in a real Label Studio, and a form that is open can still be submitted."""

import time
from collections import Counter

import pytest

from everylabel.backend.label_studio.superseded import (
    BEFORE_SECONDS,
    needed_versions,
    submits_of,
)
from everylabel.backend.store.annotations import submitted_at
from tests.conftest import choice


@pytest.fixture(scope="module")
def project(connected):
    return connected(60, "superseded", labels=14)


def rounds_on(label_studio, project):
    """How many predictions of rounds each task has."""
    return Counter(task for task, _ in predictions_of_rounds(label_studio, project))


def versions_on(label_studio, project):
    """The rounds that any task has a prediction of."""
    return {version for _, version in predictions_of_rounds(label_studio, project)}


def predictions_of_rounds(label_studio, project):
    return [
        (task["id"], prediction["model_version"])
        for task in label_studio.tasks(project)
        for prediction in task["predictions"]
        if prediction["model_version"].startswith("round ")
    ]


@pytest.mark.timeout(900)  # twelve rounds at a person's pace, and hundreds of predictions deleted one by one
def test_labelled_and_asked_for_crops_are_freed_of_old_rounds_and_an_open_one_is_submitted_after_a_break(
    label_studio, everylabel_backend, project
):
    latest = everylabel_backend.round(project.id)
    opened_at = time.time()
    for number in range(12):
        if number >= 10:
            # A person's pace: rounds served within seconds of when a form was opened are kept.
            time.sleep(2 * BEFORE_SECONDS)
        task = label_studio.next_task(project.id)
        lead_time = time.time() - opened_at
        annotation = label_studio.annotate(task, project.labels[task], lead_time=max(0.0, lead_time))
        # The form loads the next crop once the submit is answered, however slow the answers are here: behind the last
        # change that Label Studio makes to the annotation, which it may write twice.
        submit = label_studio.api("GET", f"/api/annotations/{annotation}/")
        opened_at = submitted_at(submit["updated_at"]) + 0.1
        opened = label_studio.next_task(project.id)  # at once, as the form does: mostly of the round before
        shown = label_studio.client.get(f"/api/tasks/{opened}/").json()["predictions"]
        parent = max(shown, key=lambda prediction: prediction["id"]) if shown else None
        latest = everylabel_backend.wait_for_round(project.id, after=latest.number)
    assert max(rounds_on(label_studio, project.id).values()) > 4, "within a minute they are kept"

    later = everylabel_backend.services_later(1200)  # a break
    later.trainer.run_maintenance()
    later.trainer.run_maintenance()
    left = rounds_on(label_studio, project.id)
    store = everylabel_backend.services.store
    users = [user["id"] for user in label_studio.api("GET", "/api/users/")]
    # How many those are goes by how fast the machine is: where answers take seconds, somebody had the time to open a crop.
    # At a person's pace they are few: tests/unit/backend/label_studio/test_superseded.py.
    needed = needed_versions(
        store.rounds(project.id), submits_of(store.annotations(project.id)), users, time.time() + 1200
    )
    assert versions_on(label_studio, project.id) <= needed, "what nobody can have open has left Label Studio"
    assert max(left.values()) <= len(needed)
    assert label_studio.next_task(project.id) == opened
    assert parent is not None
    started = time.monotonic()
    label_studio.annotate(
        opened, project.labels[opened], parent_prediction=parent["id"], result=choice(project.labels[opened])
    )
    assert time.monotonic() - started < 5
    everylabel_backend.wait_for_round(project.id, after=latest.number, labels=14 + 13)
    assert set(latest.queue) <= {task for task, count in left.items() if count}
