"""A crop that one more label tells much of is served to whoever has not labelled it, where a project leaves the choice open."""

import pytest

from everylabel.backend.label_studio.overlap import leave_choice_open
from tests.conftest import choice
from tests.everylabel_process import wait_until

SHARED, ALONE = 4, 24


@pytest.fixture(scope="module")
def annotators(sign_in):
    """Two people with accounts of their own, as clients that are signed in."""
    return sign_in("ada-second", "grace-second")


def served(client, project):
    answer = client.get(f"/api/projects/{project.id}/next/")
    assert answer.is_success, answer.text[:500]
    return answer.json()


def label(client, task, given):
    body = {"result": choice(given), "lead_time": 0.1}
    client.post(f"/api/tasks/{task}/annotations/", json=body).raise_for_status()


def wait_until_asked(label_studio, task):
    """The round is served a moment before Label Studio is told of them; an import is rearranged behind its answer."""

    def is_asked():
        found = label_studio.api("GET", f"/api/tasks/{task}/")
        return not found["is_labeled"] and found["overlap"] == len(found["annotations"]) + 1

    wait_until(is_asked, f"task {task} is asked of nobody")


def wait_until_over(label_studio, task):
    def is_over():
        found = label_studio.api("GET", f"/api/tasks/{task}/")
        return found["is_labeled"] and found["overlap"] == 1

    wait_until(is_over, f"task {task} is asked for still")


def label_next(client, project):
    task = served(client, project)["id"]
    label(client, task, project.labels[task])
    return task


def turn(everylabel_backend, project, *words):
    # It gives way to the trainer, and to all else on the machine.
    done = everylabel_backend.command("connect", "--project", str(project.id), *words, seconds=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return " ".join(done.stdout.split())


def served_again(label_studio, project):
    """The tasks with an annotation that Label Studio serves to whoever has not annotated them."""
    tasks = label_studio.tasks(project.id)
    return {task["id"] for task in tasks if task["annotations"] and not task["is_labeled"]}


@pytest.fixture(scope="module")
def project(label_studio, everylabel_backend, digits, annotators):
    """A project with second labels; its two people disagree on two of four crops."""
    project = label_studio.digits_project(digits, 120, "second labels")
    assert leave_choice_open(everylabel_backend.services.label_studio, project.id, 2)
    everylabel_backend.connect(project.id)
    ada, grace = annotators
    for at, task in enumerate(project.task_ids[:SHARED]):
        true = project.labels[task]
        label(ada, task, true)
        label(grace, task, str((int(true) + 1) % 10) if at % 2 else true)
    first = {task: n % 2 for n, task in enumerate(project.task_ids[SHARED : SHARED + ALONE])}
    for task, who in first.items():
        label(annotators[who], task, project.labels[task])
    everylabel_backend.wait_for_round(project.id, labels=SHARED + ALONE)
    return project, first


def test_the_other_person_is_served_the_crop_and_the_loop_goes_on(
    label_studio, everylabel_backend, annotators, project
):
    project, first = project
    latest = everylabel_backend.round(project.id)
    (asked,) = latest.second_labels
    assert asked in first, "one that a single person has labelled"
    assert asked not in latest.queue
    wait_until_asked(label_studio, asked)
    labelled_it, has_not = annotators[first[asked]], annotators[1 - first[asked]]
    checked = everylabel_backend.command("doctor", "--project", str(project.id)).stdout
    assert f"crops of {latest.model_version} can be served" in " ".join(checked.split())
    assert "another person is asked about 1 crop" in " ".join(checked.split())

    crop = served(has_not, project)
    assert crop["id"] == asked
    assert (crop["annotations"], crop["predictions"]) == ([], []), "nothing leads them"
    for _ in range(3):  # whoever has labelled it goes on with the queue
        task = label_next(labelled_it, project)
        assert task != asked
    latest = everylabel_backend.wait_for_round(project.id, labels=SHARED + ALONE + 3)
    assert latest.second_labels == (asked,), "until it has its label"
    label(has_not, asked, project.labels[asked])

    after = everylabel_backend.wait_for_round(project.id, after=latest.number)
    assert after.n_labels == latest.n_labels
    assert after.second_labels == ()
    wait_until_over(label_studio, asked)
    new = [label_next(annotators[n % 2], project) for n in range(4)]
    assert not {*new} & {*first, asked, *project.task_ids[:SHARED]}, "four labels of new crops"
    later = everylabel_backend.wait_for_round(project.id, labels=after.n_labels + 4)
    assert len(later.second_labels) == 1
    assert later.second_labels != (asked,)


def test_an_import_takes_back_whom_it_is_asked_of_and_the_next_round_asks_again(
    label_studio, everylabel_backend, annotators, project
):
    project, _ = project
    before = everylabel_backend.round(project.id)
    (asked,) = before.second_labels
    image = label_studio.api("GET", f"/api/tasks/{asked}/")["data"]["image"]
    label_studio.api("POST", f"/api/projects/{project.id}/import", json=[{"image": image}])
    after = everylabel_backend.wait_for_round(project.id, after=before.number)
    assert after.second_labels == (asked,)
    wait_until_asked(label_studio, asked)


def test_a_skipped_one_is_taken_for_labelled_again_and_another_one_asked_for(
    label_studio, everylabel_backend, annotators, project
):
    project, _ = project
    before = everylabel_backend.round(project.id)
    (asked,) = before.second_labels
    wait_until_asked(label_studio, asked)
    (who,) = [client for client in annotators if served(client, project)["id"] == asked]
    body = {"result": [], "was_cancelled": True, "lead_time": 0.1}
    who.post(f"/api/tasks/{asked}/annotations/", json=body).raise_for_status()
    after = everylabel_backend.wait_for_round(project.id, after=before.number)
    assert len(after.second_labels) == 1
    assert after.second_labels != (asked,)
    wait_until_over(label_studio, asked)
    wait_until_asked(label_studio, *after.second_labels)


def test_with_another_number_of_people_nothing_that_is_labelled_is_served_again(
    label_studio, everylabel_backend, annotators, project
):
    """Label Studio would serve every crop with two labels once three people are wanted."""
    project, _ = project
    twice = [task["id"] for task in label_studio.tasks(project.id) if len(task["annotations"]) > 1]
    assert len(twice) > SHARED
    words = turn(everylabel_backend, project, "--second-labels", "3")
    assert "asks up to 3 people" in words
    latest = everylabel_backend.round(project.id)
    (asked,) = latest.second_labels
    wait_until_asked(label_studio, asked)
    assert served_again(label_studio, project) == {asked}
    for task in twice:
        found = label_studio.api("GET", f"/api/tasks/{task}/")
        assert (found["overlap"], found["is_labeled"]) == ((3, False) if task == asked else (1, True))


def test_a_project_that_wants_one_label_a_crop_has_none(
    label_studio, everylabel_backend, annotators, project
):
    project, _ = project
    (asked,) = everylabel_backend.round(project.id).second_labels
    assert "Second labels are off" in turn(everylabel_backend, project, "--no-second-labels")
    found = label_studio.api("GET", f"/api/projects/{project.id}/")
    assert (found["maximum_annotations"], found["overlap_cohort_percentage"]) == (1, 100)
    assert everylabel_backend.round(project.id).second_labels == ()
    wait_until_over(label_studio, asked)
    assert served_again(label_studio, project) == set()
    taken = {*everylabel_backend.labels(project.id)}
    for client in annotators:
        assert served(client, project)["id"] not in taken
