"""Label Studio never says that there is nothing to label while crops are left that nobody holds."""

import time

import pytest

from tests.conftest import choice
from tests.everylabel_process import EveryLabel

NAMES = ("ada", "grace")


@pytest.fixture(scope="module")
def annotators(sign_in):
    """Two people with accounts of their own, as clients that are signed in."""
    return sign_in(*(f"{name}-reserve" for name in NAMES))


def next_task(client, project):
    answer = client.get(f"/api/projects/{project.id}/next/")
    assert answer.status_code in (200, 404), answer.text[:500]
    return int(answer.json()["id"]) if answer.status_code == 200 else None


def label(client, project, task):
    body = {"result": choice(project.labels[task]), "lead_time": 0.1}
    client.post(f"/api/tasks/{task}/annotations/", json=body).raise_for_status()


def test_a_crop_somebody_opened_and_left_stops_nobody_and_takes_no_place(
    annotators, everylabel_backend, connected
):
    project = connected(30, "opened and left")
    leaves, stays = annotators
    held, latest, passed = next_task(leaves, project), everylabel_backend.round(project.id), 0
    for n in range(1, 30):
        task = next_task(stays, project)
        assert task is not None, f"404 with {30 - n} crops left that nobody holds"
        assert task != held
        passed += held in latest.queue[: latest.queue.index(task)] if task in latest.queue else False
        label(stays, project, task)
        if n <= 6:  # as somebody who waits for the round; then as quick as Label Studio lets them
            latest = everylabel_backend.wait_for_round(project.id, labels=n)
            assert passed < 3 or held not in latest.queue, "passed over again and again, it takes no place"
            time.sleep(1.5)  # what is opened now is opened from this round, by any clock
    assert next_task(stays, project) is None, "the only one left is open before somebody"
    assert next_task(leaves, project) == held, "and its holder still has it"
    label(leaves, project, held)
    everylabel_backend.wait_for_round(project.id, labels=30)


def test_two_people_go_on_while_the_backend_is_down(label_studio, annotators, digits, tmp_path):
    backend = EveryLabel(label_studio.url, label_studio.token, tmp_path)
    backend.start()
    try:
        project = label_studio.digits_project(digits, 150, "nobody at home")
        backend.connect(project.id)
        for n in range(12):
            label(annotators[n % 2], project, next_task(annotators[n % 2], project))
        latest = backend.wait_for_round(project.id, labels=12)
        shown = [*latest.queue, *latest.pre_annotated, *latest.reserve]
        backend.kill()
        held = next_task(annotators[0], project)  # opened, and left for the rest of the day
        served = []
        for n in range(40):
            task = next_task(annotators[1], project)
            assert task is not None, f"404 after {n} labels, with {150 - 13 - n} crops left"
            label(annotators[1], project, task)
            served.append(task)
        assert held not in served
        # The first was open already, from whichever round served it.
        places = [shown.index(task) for task in served[1:] if task in shown]
        assert len(places) >= 30
        assert places == sorted(places)
        backend.start()
        after = backend.wait_for_round(project.id, labels=52)
        assert not {*served} & {*after.queue, *after.reserve}
    finally:
        backend.stop()
