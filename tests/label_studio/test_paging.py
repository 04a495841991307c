"""Reading a project in more pages than one: every task is read once, whatever happens in between."""

import time

import pytest

from backend import label_studio as client


@pytest.mark.parametrize("annotated", [False, True])
def test_a_task_deleted_while_pages_are_read_hides_no_other(
    label_studio, everylabel_backend, digits, monkeypatch, annotated
):
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    project = label_studio.digits_project(digits, 8, "read in pages")
    labelled, skipped = project.task_ids[:5], project.task_ids[5]
    for task in labelled:
        label_studio.annotate(task, project.labels[task])
    label_studio.annotate(skipped, project.labels[skipped], was_cancelled=True)
    expected = [*labelled, skipped] if annotated else list(project.task_ids)

    totals = []
    reading = everylabel_backend.services.label_studio.tasks(
        project.id, annotated=annotated, progress=lambda done, total: totals.append((done, total))
    )
    found = [next(reading)["id"], next(reading)["id"]]
    label_studio.api("DELETE", f"/api/tasks/{found[0]}/")
    found += [task["id"] for task in reading]
    assert found == expected
    assert totals == [(read, len(expected)) for read in range(2, len(expected) + 1, 2)]


def test_label_studio_tells_which_tasks_have_changed(label_studio, everylabel_backend, digits):
    project = label_studio.digits_project(digits, 6, "changed")
    client, now = everylabel_backend.services.label_studio, time.time()
    tasks = list(client.tasks(project.id))
    assert [task["id"] for task in client.tasks(project.id, changed_since=now - 600)] == [
        t["id"] for t in tasks
    ]
    time.sleep(0.05)
    since = time.time()
    assert list(client.tasks(project.id, changed_since=since)) == []
    first, second, *_ = project.task_ids
    label_studio.annotate(first, project.labels[first])
    label_studio.api("PATCH", f"/api/tasks/{second}/", json={"data": {**tasks[1]["data"], "more": "text"}})
    new = label_studio.upload(project.id, digits.images[6:7])
    changed = [task["id"] for task in client.tasks(project.id, changed_since=since)]
    assert changed == [first, second, *new]
    assert changed[1:] == [t["id"] for t in client.tasks(project.id, changed_since=since, after=first)]
