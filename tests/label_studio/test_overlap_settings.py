"""How many people Label Studio asks about a crop is set without serving what is labelled again, and a suggestion leads nobody."""

import pytest

from everylabel.backend.label_studio.client import LabelStudio as Client
from everylabel.backend.label_studio.overlap import ask_one_person, leave_choice_open, own_overlap_of
from tests.conftest import choice
from tests.everylabel_process import wait_until

ONCE, TWICE, SKIPPED, OPEN = range(3), range(3, 6), range(6, 7), range(7, 12)
"""Of twelve crops: those with one label, with two, one that is skipped, and those of nobody."""


@pytest.fixture(scope="module")
def annotators(sign_in):
    """Three people with accounts of their own, as clients that are signed in."""
    return sign_in("ada-settings", "grace-settings", "joan-settings")


@pytest.fixture
def client(label_studio):
    client = Client(label_studio.url, label_studio.token)
    yield client
    client.close()


def annotate(client, task, given, *, skipped=False):
    body = {"result": [] if skipped else choice(given), "was_cancelled": skipped, "lead_time": 0.1}
    client.post(f"/api/tasks/{task}/annotations/", json=body).raise_for_status()


def change(label_studio, project, people, share):
    settings = {"maximum_annotations": people, "overlap_cohort_percentage": share}
    label_studio.api("PATCH", f"/api/projects/{project}/", json=settings)


def settings(label_studio, project):
    found = label_studio.api("GET", f"/api/projects/{project}/")
    return found["maximum_annotations"], found["overlap_cohort_percentage"]


@pytest.fixture
def project(label_studio, digits, annotators):
    """Twelve crops: labelled by one person, by two, skipped, or open."""
    ada, grace, _ = annotators
    project = label_studio.digits_project(digits, 12, "overlap settings")
    change(label_studio, project.id, 2, 100)
    for at in (*ONCE, *TWICE):
        annotate(ada, project.task_ids[at], project.labels[project.task_ids[at]])
    for at in TWICE:
        annotate(grace, project.task_ids[at], project.labels[project.task_ids[at]])
    for at in SKIPPED:
        annotate(ada, project.task_ids[at], None, skipped=True)
    yield project
    label_studio.end_projects([project.id])


def states(label_studio, project):
    found = {task["id"]: (task["overlap"], task["is_labeled"]) for task in label_studio.tasks(project.id)}
    return [found[task] for task in project.task_ids]


@pytest.mark.parametrize("before", [(1, 100), (1, 0), (2, 100), (2, 50), (2, 0)])
def test_with_the_choice_left_open_what_is_labelled_stays_labelled(
    label_studio, client, annotators, project, before
):
    change(label_studio, project.id, *before)
    if before == (2, 0):  # an import has Label Studio say anew of how many people each task is asked
        image = label_studio.api("GET", f"/api/tasks/{project.task_ids[0]}/")["data"]["image"]
        label_studio.api("POST", f"/api/projects/{project.id}/import", json=[{"image": image}])
        wait_until(lambda: states(label_studio, project)[3][0] == 2, "the import is never rearranged")
    was = leave_choice_open(client, project.id, 3)
    assert own_overlap_of(was) == (before[0] if before[1] else 1)
    assert settings(label_studio, project.id) == (3, 0)
    wait_until(lambda: states(label_studio, project)[0] == (1, True), "it is never counted anew")
    labelled = [(1, True)] * (len(ONCE) + len(TWICE))
    assert states(label_studio, project) == [*labelled, *[(1, False)] * (len(SKIPPED) + len(OPEN))]
    *_, joan = annotators
    served = joan.get(f"/api/projects/{project.id}/next/").json()["id"]
    assert served == project.task_ids[SKIPPED[0]], "a skipped one comes first, as the documentation says"
    annotate(joan, served, "3")
    served = joan.get(f"/api/projects/{project.id}/next/").json()["id"]
    assert served not in project.task_ids[: SKIPPED[-1] + 1]
    assert leave_choice_open(client, project.id, 3) is None

    assert ask_one_person(client, project.id)
    assert settings(label_studio, project.id) == (1, 100)
    assert [told for _, told in states(label_studio, project)][: len(labelled)] == [True] * len(labelled)
    assert not ask_one_person(client, project.id)


def test_what_label_studio_picks_itself_is_left_alone(label_studio, client, project):
    assert not ask_one_person(client, project.id)
    assert settings(label_studio, project.id) == (2, 100)


def test_where_it_asks_of_every_crop_the_second_person_sees_no_suggestion(
    label_studio, everylabel_backend, digits, annotators
):
    ada, grace, _ = annotators
    project = label_studio.digits_project(digits, 60, "asks of every crop")
    change(label_studio, project.id, 2, 100)
    everylabel_backend.connect(project.id)
    for at, task in enumerate(project.task_ids[:40]):
        true = int(project.labels[task])
        annotate(ada, task, str((true + 1) % 10 if at % 8 == 7 else true))
    latest = everylabel_backend.wait_for_round(project.id, labels=40)
    assert latest.suspected, "there would be a suggestion to see"
    for task in latest.suspected:
        assert label_studio.prediction(task, latest.model_version)["result"] == []
    words = " ".join(everylabel_backend.command("doctor", "--project", str(project.id)).stdout.split())
    assert "Label Studio itself asks 2 people about every crop" in words
    crop = grace.get(f"/api/projects/{project.id}/next/").json()
    assert crop["id"] in project.task_ids[:40], "those that one person has labelled come first"
    assert [one["result"] for one in crop["predictions"] if one["result"]] == []
    label_studio.end_projects([project.id])
