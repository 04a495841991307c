"""Tasks that no reader expects, beside labelling: each has its own problem, and rounds go on in every project."""

from __future__ import annotations

import pytest

from tests.everylabel_process import wait_until
from tests.hostile_images import FILES, READABLE

ODD = [
    [],
    ["a.png", "b.png"],
    [[{"url": None}]],
    "",
    " \t",
    "x" * 200_000,
    "file://C:\\images[1]\\crop.png",
    "\\\\nas\\share[2\\crop.png",
    "//nas[1:2/crop.png",
    "hdfs://[cluster/x.png",
    "http://xn--0.example/x.png",
    "http://[::ffff:127.0.0.1%25lo]/x.png",
    "http://127.1/x.png",
    "http://0x7f000001:1/x.png",
    "http://169.254.169.254/latest/meta-data",
    "http://user:secret-word@127.0.0.1:1/x.png",
    "http://127.0.0.1:99999999/x.png",
    "ftp://127.0.0.1/x.png",
    "javascript:alert(1)",
    "s3://",
    "s3://bucket",
    "gs://[x/y.png",
    "azure-blob://",
    "data:",
    "data:image/png;base64,!!!!",
    "data:image/png;base64," + "A" * 100_001,
    "data:text/html,<script>alert(1)</script>",
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "/data/upload/../../../../etc/passwd",
    "/data/local-files/?d=../../etc/passwd",
    "/api/projects/",
    "/logout",
    "\u202egnp.porc\u0661\u0662",
    "half a picture \u0001\u001b[31m.png",
]
"""Values of a task's image that Label Studio takes: texts and lists. None of them is a picture."""


@pytest.fixture(scope="module")
def bystander(connected):
    return connected(60, "beside poisoned tasks", labels=10)


@pytest.fixture(scope="module")
def poisoned(label_studio, connected, tmp_path_factory):
    """A project of 80 digits, ten of them labelled, to which the poison comes once it is connected."""
    project = connected(80, "poisoned tasks", labels=10)
    folder = tmp_path_factory.mktemp("poison")
    for name, make in FILES.items():
        (folder / name).write_bytes(make())
    odd = {}
    for value in ODD:
        task = {"project": project.id, "data": {"image": value}}
        odd[label_studio.api("POST", "/api/tasks/", json=task)["id"]] = repr(value)
    files = label_studio.upload(project.id, [folder / name for name in FILES])
    return project, odd, dict(zip(files, FILES, strict=True))


def label_on(label_studio, backend, project, first, count):
    """Label crops of a project one after the other; each must have its round."""
    for at in range(first, first + count):
        task = project.task_ids[at]
        label_studio.annotate(task, project.labels[task])
        backend.wait_for_round(project.id, labels=at + 1)


@pytest.mark.timeout(900)
def test_labelling_goes_on_in_every_project_and_each_task_has_its_own_problem(
    label_studio, everylabel_backend, bystander, poisoned
):
    project, odd, files = poisoned
    for at in (10, 12):
        label_on(label_studio, everylabel_backend, bystander, at, 2)
        label_on(label_studio, everylabel_backend, project, at, 2)
    store = everylabel_backend.services.store

    def read():
        tasks = {task.id: task for task in store.tasks(project.id)}
        wanted = {*project.task_ids, *odd, *files}
        tried = {id_ for id_, task in tasks.items() if task.problem or task.embedding_row is not None}
        return tasks if wanted <= tried else None

    tasks = wait_until(read, "some tasks were never tried", 400)
    assert all(tasks[id_].embedding_row is not None for id_ in project.task_ids)
    said = {value: tasks[id_].problem for id_, value in odd.items()}
    assert [value for value, problem in said.items() if not problem] == []
    problems = {name: tasks[id_].problem for id_, name in files.items()}
    assert [name for name, problem in problems.items() if not problem and name not in READABLE] == []
    every = "\n".join(filter(None, [*said.values(), *problems.values()]))
    assert "secret-word" not in every
    assert "unexpected" not in every.lower()
    assert max(map(len, every.splitlines())) < 1000
    label_on(label_studio, everylabel_backend, project, 14, 2)
    assert set(everylabel_backend.round(project.id).queue) <= {*project.task_ids, *files}


def test_it_is_told_and_nothing_private_is_logged(everylabel_backend, poisoned):
    project, odd, files = poisoned
    said = everylabel_backend.command("doctor", "--project", str(project.id))
    assert "All is well" not in said.stdout
    assert f"of {len(project.task_ids) + len(odd) + len(files)} crops cannot be read" in said.stdout
    assert "Traceback" not in said.stderr
    assert "secret-word" not in everylabel_backend.log_path.read_text() + said.stdout + said.stderr
    assert "Traceback" not in everylabel_backend.log_path.read_text()
