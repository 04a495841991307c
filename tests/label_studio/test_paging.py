"""Reading a project in more pages than one: every task is read once, whatever happens in between."""

import sqlite3
import time

import pytest

from everylabel.backend.label_studio import task_pages
from everylabel.backend.sync import task_listing
from tests.conftest import choice


@pytest.mark.parametrize("annotated", [False, True])
def test_a_task_deleted_while_pages_are_read_hides_no_other(
    label_studio, everylabel_backend, digits, monkeypatch, annotated
):
    monkeypatch.setattr(task_pages, "PAGE_SIZE", 2)
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


def test_a_comparison_reads_what_has_changed_and_finds_every_kind_of_change(
    label_studio, everylabel_backend, digits, monkeypatch
):
    monkeypatch.setattr(task_listing, "LATE_SECONDS", 0.0)
    project = label_studio.digits_project(digits, 8, "compared")
    services, ids = everylabel_backend.services, project.task_ids
    made = [label_studio.annotate(task, project.labels[task]) for task in ids[:4]]
    skipped = label_studio.annotate(ids[4], project.labels[ids[4]], was_cancelled=True)
    loop, store = services.loop, services.store
    store.save_project(project.id)
    loop.reconcile(project.id)
    assert {a.id for a in store.annotations(project.id)} == {*made, skipped}

    read = []

    def compare():
        read.clear()
        return loop.reconcile(project.id, lambda what, done, _: read.append((what, done)))

    assert not compare()
    assert read == []
    label_studio.api("PATCH", f"/api/annotations/{made[0]}/", json={"result": choice("9")})
    label_studio.api("DELETE", f"/api/annotations/{made[1]}/")
    selected = {"all": False, "included": [ids[2]]}
    action = {"id": "delete_tasks_annotations", "project": project.id}
    label_studio.api("POST", "/api/dm/actions/", params=action, json={"selectedItems": selected})
    again = label_studio.annotate(ids[5], project.labels[ids[5]])
    assert compare().labels
    assert {a.id: a.choice for a in store.annotations(project.id)} == {
        made[0]: "9",
        made[3]: project.labels[ids[3]],
        skipped: project.labels[ids[4]],
        again: project.labels[ids[5]],
    }
    assert max(done for what, done in read if what == "Reading annotations") == 2
    label_studio.api("DELETE", f"/api/tasks/{ids[7]}/")
    assert compare().tasks
    assert [task.id for task in store.tasks(project.id)] == list(ids[:7])
    assert not compare()


def test_a_label_is_found_that_label_studio_was_killed_before_counting(
    label_studio, everylabel_backend, digits
):
    database = label_studio.server.data_dir / "label_studio.sqlite3"
    if not database.exists():
        pytest.skip("Label Studio's database is not a file here, and its counts cannot be set back")
    project = label_studio.digits_project(digits, 6, "killed")
    first, second, *_ = project.task_ids
    services = everylabel_backend.services
    services.store.save_project(project.id)
    services.loop.reconcile(project.id)
    for task in (first, second):
        label_studio.annotate(task, project.labels[task])
    # An annotation is saved in one step and counted in the next.
    with sqlite3.connect(database, timeout=30) as connection:
        connection.execute(
            "UPDATE task SET total_annotations = 0, is_labeled = 0, updated_at = created_at WHERE id = ?",
            (second,),
        )
    connection.close()
    services.loop.reconcile(project.id)
    assert {a.task_id for a in services.store.annotations(project.id)} == {first, second}
    services.loop.reconcile(project.id, whole=True)
    assert {a.task_id for a in services.store.annotations(project.id)} == {first, second}
    assert services.label_studio.annotated(project.id, project.task_ids) == {first, second}
