"""Nothing is lost when the backend or Label Studio goes away and comes back."""

import pytest

from tests.everylabel_process import wait_until


@pytest.fixture(scope="module")
def project(label_studio, guarded_backend, digits):
    project = label_studio.digits_project(digits, 30, "restarts")
    guarded_backend.connect(project.id)
    for task in project.task_ids[:5]:
        label_studio.annotate(task, project.labels[task])
    guarded_backend.wait_for_round(project.id, labels=5)
    return project


def test_a_restarted_backend_remembers_everything(label_studio, guarded_backend, project):
    before = guarded_backend.round(project.id)
    labels = guarded_backend.labels(project.id)
    guarded_backend.stop()
    guarded_backend.start()
    assert guarded_backend.round(project.id) == before
    assert guarded_backend.labels(project.id) == labels
    task = label_studio.next_task(project.id)
    assert task == before.queue[0]
    label_studio.annotate(task, project.labels[task])
    after = guarded_backend.wait_for_round(project.id, labels=6)
    assert after.number > before.number, "version names are never used again"


def test_labels_given_while_the_backend_is_away_are_found(label_studio, guarded_backend, project):
    """Label Studio does not repeat a webhook that nobody took."""
    given = guarded_backend.round(project.id).n_labels
    guarded_backend.stop()
    open_tasks = [task for task in project.task_ids if task not in guarded_backend.labels(project.id)]
    for task in open_tasks[:3]:
        label_studio.annotate(task, project.labels[task])
    guarded_backend.start()
    guarded_backend.wait_for_round(project.id, labels=given + 3)
    learned = guarded_backend.labels(project.id)
    assert {task: learned[task] for task in open_tasks[:3]} == {t: project.labels[t] for t in open_tasks[:3]}


@pytest.mark.timeout(600)
def test_no_label_is_lost_when_label_studio_restarts(label_studio, guarded_backend, project):
    given = guarded_backend.round(project.id).n_labels
    open_tasks = [task for task in project.task_ids if task not in guarded_backend.labels(project.id)]
    with guarded_backend.busy_trainer():
        for task in open_tasks[:2]:
            label_studio.annotate(task, project.labels[task])
        label_studio.server.stop()
    try:
        problem = wait_until(
            lambda: guarded_backend.services.store.project(project.id).problem,
            "the backend has not noticed that Label Studio is away",
        )
        assert "does not answer" in problem
    finally:
        label_studio.server.start()
    label_studio.annotate(open_tasks[2], project.labels[open_tasks[2]])
    latest = guarded_backend.wait_for_round(project.id, labels=given + 3)
    learned = guarded_backend.labels(project.id)
    assert {task: learned.get(task) for task in open_tasks[:3]} == {
        t: project.labels[t] for t in open_tasks[:3]
    }
    assert guarded_backend.services.store.project(project.id).problem is None
    assert label_studio.next_task(project.id) in latest.queue
