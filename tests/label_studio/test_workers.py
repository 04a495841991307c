"""Several web workers share one memory and one trainer."""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.everylabel_process import EveryLabel, descendants, wait_until

WORKERS, SENDERS, LABELS = 2, 8, 40


@pytest.fixture(scope="module")
def backend(label_studio, tmp_path_factory):
    """Two workers with four threads each."""
    backend = EveryLabel(label_studio.url, label_studio.token, tmp_path_factory.mktemp("workers"))
    backend.start("--workers", str(WORKERS), "--threads", "4")
    yield backend
    backend.stop()


@pytest.fixture(scope="module")
def project(label_studio, backend, digits):
    project = label_studio.digits_project(digits, 100, "several workers")
    backend.connect(project.id)
    return project


def workers(backend):
    """Those that answer requests: children of gunicorn's master."""
    webs = [pid for pid in descendants(backend.pid) if "gunicorn" in Path(f"/proc/{pid}/cmdline").read_text()]
    return sorted(pid for pid in webs if descendants(pid) == set() and len(webs) > 1)


def counted(backend, action):
    text = httpx.get(f"{backend.settings.public_url}/metrics").text
    return sum(
        float(value)
        for value in re.findall(
            rf'^everylabel_events_total\{{action="{action}"\}} (\S+)$', text, re.MULTILINE
        )
    )


def label(label_studio, project, tasks):
    with ThreadPoolExecutor(SENDERS) as people:
        list(people.map(lambda task: label_studio.annotate(task, project.labels[task]), tasks))


def test_labels_of_many_at_once_are_all_kept_and_counted_together(label_studio, backend, project):
    assert len(workers(backend)) == WORKERS
    label(label_studio, project, project.task_ids[:LABELS])
    settled = backend.wait_for_round(project.id, labels=LABELS)
    assert backend.labels(project.id) == {task: project.labels[task] for task in project.task_ids[:LABELS]}
    assert label_studio.next_task(project.id) in settled.queue
    assert {counted(backend, "ANNOTATION_CREATED") for _ in range(8)} == {LABELS}, "whichever answers"


def test_only_the_trainer_holds_the_encoder(backend, project):
    holders = {
        pid for pid in descendants(backend.pid) if "onnxruntime" in Path(f"/proc/{pid}/maps").read_text()
    }
    (trainer,) = holders
    assert "trainer" in Path(f"/proc/{trainer}/cmdline").read_text()


def test_a_worker_that_dies_is_replaced_and_loses_nothing(label_studio, backend, project):
    before = workers(backend)
    os.kill(before[0], signal.SIGKILL)
    label(label_studio, project, project.task_ids[LABELS : LABELS + 10])
    backend.wait_for_round(project.id, labels=LABELS + 10)
    wait_until(lambda: len(set(workers(backend)) - {before[0]}) == WORKERS, "another worker")
