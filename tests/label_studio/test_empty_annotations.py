"""What a submit without a class does in a real Label Studio, and that nothing is lost or asked for in vain."""

import pytest

from everylabel.scripts.commands.doctor import examine
from tests.conftest import choice


@pytest.fixture(scope="module")
def project(connected):
    return connected(40, "empty annotations", labels=6)


def problems(everylabel_backend, project):
    found = examine(everylabel_backend.services, project.id)
    return {finding.check: finding.problem for finding in found if finding.problem}


def predicted(label_studio, task, version):
    found = label_studio.prediction(task, version)
    return found and [region["value"]["choices"] for region in found["result"]]


def test_crops_submitted_empty_are_not_asked_for_again_and_every_crop_served_is_of_the_newest_round(
    label_studio, everylabel_backend, project
):
    empties = []
    for _ in range(5):
        before = everylabel_backend.round(project.id)
        task = label_studio.next_task(project.id)
        assert task == before.queue[0]
        label_studio.api("POST", f"/api/tasks/{task}/annotations/", json={"result": [], "lead_time": 1.0})
        empties.append(task)
        after = everylabel_backend.wait_for_round(project.id, after=before.number)
        assert after.n_labels == before.n_labels
        assert not {*after.queue, *after.pre_annotated} & {*empties}
        assert len(after.batch) == 5
    assert len({*empties}) == 5
    told = problems(everylabel_backend, project)
    assert "Label stream" not in told, "the batch is what Label Studio can serve"
    assert "5 without a class" in told["Annotations"]


def test_a_label_that_becomes_empty_waits_with_the_label_it_had_and_can_be_given_again(
    label_studio, everylabel_backend, project
):
    before = everylabel_backend.round(project.id)
    task = label_studio.next_task(project.id)
    annotation = label_studio.annotate(task, project.labels[task])
    labelled = everylabel_backend.wait_for_round(project.id, after=before.number)
    label_studio.api("PATCH", f"/api/annotations/{annotation}/", json={"result": []})
    emptied = everylabel_backend.wait_for_round(project.id, after=labelled.number)
    assert emptied.n_labels == labelled.n_labels - 1
    assert emptied.emptied == (task,)
    assert predicted(label_studio, task, emptied.model_version) == [[project.labels[task]]]
    assert f"task {task} (was {project.labels[task]})" in problems(everylabel_backend, project)["Annotations"]
    assert label_studio.next_task(project.id) == emptied.queue[0]

    label_studio.api(
        "PATCH", f"/api/annotations/{annotation}/", json={"result": choice(project.labels[task])}
    )
    again = everylabel_backend.wait_for_round(project.id, after=emptied.number)
    assert again.n_labels == labelled.n_labels
    assert again.emptied == ()


def test_an_empty_annotation_that_is_deleted_brings_its_crop_back_into_the_pool(
    label_studio, everylabel_backend, project
):
    before = everylabel_backend.round(project.id)
    task = label_studio.next_task(project.id)
    made = label_studio.api("POST", f"/api/tasks/{task}/annotations/", json={"result": [], "lead_time": 1.0})
    emptied = everylabel_backend.wait_for_round(project.id, after=before.number)
    label_studio.api("DELETE", f"/api/annotations/{made['id']}/")
    after = everylabel_backend.wait_for_round(project.id, after=emptied.number)
    held = everylabel_backend.services.store.annotated_tasks(project.id)
    assert task not in held
    assert task in after.queue, "the round of before is run again: it asked for this crop first"


def test_doctor_sees_what_label_studio_does_not_serve(label_studio, everylabel_backend, project):
    with everylabel_backend.busy_trainer():
        latest = everylabel_backend.round(project.id)
        task = label_studio.next_task(project.id)
        label_studio.api(
            "POST",
            f"/api/tasks/{task}/annotations/",
            json={"result": [], "was_cancelled": True, "lead_time": 1.0},
        )
        store = everylabel_backend.services.store
        store.delete_events([event.id for event in store.events(project.id)])  # its webhook is lost
        told = problems(everylabel_backend, project)["Label stream"]
        assert f"task {task} (somebody has skipped it)" in told
        store.add_event(project.id, "LOOK_AND_TRAIN", {})
    everylabel_backend.wait_for_round(project.id, after=latest.number)
    assert "Label stream" not in problems(everylabel_backend, project)
