"""What the backend learns from is what Label Studio holds, however a label came, changed or went."""

import pytest

from tests.conftest import choice
from tests.everylabel_process import wait_until


@pytest.fixture(scope="module")
def project(connected):
    return connected(40, "annotations")


def held_by_label_studio(label_studio, project):
    """The label of each task, as Label Studio's own API tells it."""
    return {
        task["id"]: annotation["result"][0]["value"]["choices"][0]
        for task in label_studio.tasks(project)
        for annotation in task["annotations"]
        if not annotation["was_cancelled"]
    }


def test_labels_given_one_by_one_are_all_learned(label_studio, everylabel_backend, project):
    for task in project.task_ids[:8]:
        label_studio.annotate(task, project.labels[task])
    everylabel_backend.wait_for_round(project.id, labels=8)
    held = held_by_label_studio(label_studio, project.id)
    assert len(held) == 8
    assert everylabel_backend.labels(project.id) == held


def test_a_corrected_annotation_changes_the_label(label_studio, everylabel_backend, project):
    task = project.task_ids[8]
    before = everylabel_backend.number(project.id)
    annotation = label_studio.annotate(task, "0")
    everylabel_backend.wait_for_round(project.id, after=before, labels=9)
    before = everylabel_backend.number(project.id)
    label_studio.api("PATCH", f"/api/annotations/{annotation}/", json={"result": choice("7")})
    everylabel_backend.wait_for_round(project.id, after=before, labels=9)
    assert everylabel_backend.labels(project.id)[task] == "7"


def test_a_deleted_annotation_is_forgotten_and_its_crop_can_come_again(
    label_studio, everylabel_backend, project
):
    task = project.task_ids[9]
    annotation = label_studio.annotate(task, "0")
    everylabel_backend.wait_for_round(project.id, labels=10)
    label_studio.api("DELETE", f"/api/annotations/{annotation}/")
    everylabel_backend.wait_for_round(project.id, labels=9)
    assert task not in everylabel_backend.labels(project.id)
    assert everylabel_backend.labels(project.id) == held_by_label_studio(label_studio, project.id)


def test_a_skipped_crop_does_not_come_back(label_studio, everylabel_backend, project):
    before = everylabel_backend.round(project.id)
    skipped = label_studio.next_task(project.id)
    body = {"result": [], "was_cancelled": True, "lead_time": 1.0}
    label_studio.api("POST", f"/api/tasks/{skipped}/annotations/", json=body)
    after = everylabel_backend.wait_for_round(project.id, after=before.number)
    assert after.n_labels == before.n_labels, "a skip is no label"
    assert skipped not in (*after.queue, *after.pre_annotated)
    assert label_studio.next_task(project.id) == after.queue[0]


def test_an_empty_annotation_is_no_label_and_breaks_nothing(label_studio, everylabel_backend, project):
    before = everylabel_backend.round(project.id)
    task = label_studio.next_task(project.id)
    label_studio.api("POST", f"/api/tasks/{task}/annotations/", json={"result": [], "lead_time": 1.0})
    after = everylabel_backend.wait_for_round(project.id, after=before.number)
    assert after.n_labels == before.n_labels
    assert task not in everylabel_backend.labels(project.id)


def test_annotations_made_in_bulk_are_learned(label_studio, everylabel_backend, project):
    """The action *Create annotations from predictions*: one webhook with a list."""
    chosen = list(project.task_ids[12:18])
    predictions = [{"task": t, "result": choice(project.labels[t]), "model_version": "mine"} for t in chosen]
    label_studio.api("POST", f"/api/projects/{project.id}/import/predictions", json=predictions)
    before = everylabel_backend.round(project.id)
    label_studio.api(
        "POST",
        "/api/dm/actions/",
        params={"id": "predictions_to_annotations", "project": project.id},
        json={"selectedItems": {"all": False, "included": chosen}, "model_version": "mine"},
    )
    everylabel_backend.wait_for_round(project.id, labels=before.n_labels + len(chosen))
    learned = everylabel_backend.labels(project.id)
    assert {task: learned.get(task) for task in chosen} == {task: project.labels[task] for task in chosen}


def test_annotations_deleted_in_bulk_are_forgotten(label_studio, everylabel_backend, project):
    chosen = list(project.task_ids[12:15])
    before = everylabel_backend.round(project.id)
    label_studio.api(
        "POST",
        "/api/dm/actions/",
        params={"id": "delete_tasks_annotations", "project": project.id},
        json={"selectedItems": {"all": False, "included": chosen}},
    )
    everylabel_backend.wait_for_round(project.id, labels=before.n_labels - len(chosen))
    assert not everylabel_backend.labels(project.id).keys() & set(chosen)


def test_crops_imported_later_join_the_queue(label_studio, everylabel_backend, project, digits):
    before = everylabel_backend.round(project.id)
    new = label_studio.upload(project.id, digits.images[200:240])
    after = everylabel_backend.wait_for_round(project.id, after=before.number)

    def embedded():
        known = everylabel_backend.services.store.tasks(project.id, new)
        return len(known) == len(new) and all(task.embedding_row is not None for task in known)

    wait_until(embedded, "the new crops are not embedded")
    for _ in range(6):  # half of the open crops are new: some round asks for one of them
        if set(after.queue) & set(new):
            break
        task = label_studio.next_task(project.id)
        label_studio.annotate(task, project.labels[task])
        after = everylabel_backend.wait_for_round(project.id, after=after.number)
    assert set(after.queue) & set(new)


def test_deleted_tasks_leave_the_queue(label_studio, everylabel_backend, project):
    before = everylabel_backend.round(project.id)
    gone = list(before.queue)
    label_studio.api(
        "POST",
        "/api/dm/actions/",
        params={"id": "delete_tasks", "project": project.id},
        json={"selectedItems": {"all": False, "included": gone}},
    )
    after = everylabel_backend.wait_for_round(project.id, after=before.number)
    assert not set(after.queue) & set(gone)
    assert label_studio.next_task(project.id) == after.queue[0]


def test_after_all_of_this_both_hold_the_same_labels(label_studio, everylabel_backend, project):
    def same():
        held = {}
        for task in label_studio.tasks(project.id):
            for annotation in task["annotations"]:
                if annotation["result"] and not annotation["was_cancelled"]:
                    held[task["id"]] = annotation["result"][0]["value"]["choices"][0]
        return held == everylabel_backend.labels(project.id)

    wait_until(same, "Label Studio and the backend hold different labels")
