"""*Label All Tasks* serves the crop that is asked for, and every annotation changes which that is."""

import pytest


@pytest.fixture(scope="module")
def project(connected):
    return connected(150, "queue")


def test_an_annotation_changes_the_next_crop(label_studio, everylabel_backend, project):
    for labels in (1, 2, 3):
        before = everylabel_backend.round(project.id)
        head = label_studio.next_task(project.id)
        assert head == before.queue[0]
        label_studio.annotate(head, project.labels[head])
        after = everylabel_backend.wait_for_round(project.id, labels=labels)
        assert after.number > before.number
        assert head not in after.queue
        assert label_studio.next_task(project.id) == after.queue[0]
        assert after.queue != before.queue


def test_every_crop_of_the_queue_comes_in_order_and_no_click_waits_for_training(
    label_studio, everylabel_backend, project
):
    """The trainer stands still meanwhile: the queue pushed before is what is served, down to its end."""
    # The crop that is open already would come before any queue: Label Studio keeps it for its annotator.
    opened = label_studio.next_task(project.id)
    more = [task for task in project.task_ids if task not in everylabel_backend.labels(project.id)]
    more = {opened, *more[:11]}
    for task in more:
        label_studio.annotate(task, project.labels[task])
    latest = everylabel_backend.wait_for_round(project.id, labels=len(more) + 3)
    asked = latest.queue + latest.pre_annotated
    log = label_studio.server.log_path
    before = len(log.read_text())
    with everylabel_backend.busy_trainer():
        served = []
        for _ in asked:
            task = label_studio.next_task(project.id)
            label_studio.annotate(task, project.labels[task])
            served.append(task)
    assert tuple(served) == asked
    said = log.read_text()[before:]
    assert "timed out" not in said, "a click waited for the backend until Label Studio gave up"
    everylabel_backend.wait_for_round(project.id, labels=len(more) + 3 + len(asked))


def test_the_start_training_button_starts_a_round(label_studio, everylabel_backend, project):
    before = everylabel_backend.round(project.id)
    (backend,) = label_studio.api("GET", "/api/ml/", params={"project": project.id})
    label_studio.api("POST", f"/api/ml/{backend['id']}/train", json={})
    after = everylabel_backend.wait_for_round(project.id, after=before.number)
    assert after.n_labels == before.n_labels
    assert label_studio.next_task(project.id) == after.queue[0]


def test_retrieved_predictions_are_stored_and_leave_the_queue_alone(
    label_studio, everylabel_backend, project
):
    latest = everylabel_backend.round(project.id)
    label_studio.api(
        "POST",
        "/api/dm/actions/",
        params={"id": "retrieve_tasks_predictions", "project": project.id},
        json={"selectedItems": {"all": True, "excluded": []}},
    )
    answered = label_studio.predictions(project.id, f"{latest.model_version} model")
    assert answered.keys() == set(project.task_ids), "one answer for every task"
    assert all(prediction["result"] for prediction in answered.values())
    assert everylabel_backend.round(project.id) == latest
    with everylabel_backend.busy_trainer():
        for task in latest.queue:
            assert label_studio.next_task(project.id) == task
            label_studio.annotate(task, project.labels[task])
    everylabel_backend.wait_for_round(project.id, after=latest.number)


def test_two_projects_are_kept_apart(label_studio, everylabel_backend, connected):
    one, other = connected(20, "one"), connected(25, "the other")
    before = everylabel_backend.round(other.id)
    task = label_studio.next_task(one.id)
    label_studio.annotate(task, one.labels[task])
    round_of_one = everylabel_backend.wait_for_round(one.id, labels=1)
    assert set(round_of_one.queue) <= set(one.task_ids)
    assert everylabel_backend.round(other.id) == before
    assert label_studio.next_task(other.id) == before.queue[0]
    assert set(before.queue) <= set(other.task_ids)
    assert everylabel_backend.labels(other.id) == {}
