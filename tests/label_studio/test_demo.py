"""`everylabel demo` from the first start to the last: it runs by itself, goes on, and leaves no process behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.scripts.local_label_studio.install import environment_in
from everylabel.scripts.local_label_studio.server import Credentials
from tests.everylabel_process import REPOSITORY, descendants, free_port, is_running, wait_until

# Each of these starts a Label Studio of the demo's own.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def demo(digits, tmp_path_factory):
    """The command line of a demo on 36 crops of a person's own, three classes in subfolders."""
    home = tmp_path_factory.mktemp("demo")
    for digit in "358":
        (home / "crops" / digit).mkdir(parents=True)
        for path in [p for p, label in zip(digits.images, digits.labels, strict=True) if label == digit][:12]:
            shutil.copy(path, home / "crops" / digit / path.name)
    named = os.environ.get("EVERYLABEL_TEST_LABEL_STUDIO")
    executable = named or environment_in(Path(".everylabel"))  # a folder, seen from where the demo runs
    return [
        *(sys.executable, "-m", "everylabel.scripts.cli", "demo"),
        *("--images", str(home / "crops"), "--directory", str(home / "everylabel")),
        *("--label-studio", str(executable)),
        *("--port", str(free_port()), "--backend-port", str(free_port())),
    ]


def served_round(project):
    return int(project["model_version"].removeprefix("round "))


def label_next(address, token, project):
    """Label what the label stream shows next, as its form would."""
    headers = {"Authorization": f"Token {token}"}
    with httpx.Client(base_url=address, headers=headers, timeout=60, trust_env=False) as client:
        task = client.get(f"/api/projects/{project['id']}/next/").raise_for_status().json()["id"]
        body = {"result": label_config.parse(project["label_config"]).result("3")}
        client.post(f"/api/tasks/{task}/annotations/", json=body).raise_for_status()


def test_a_simulated_annotator_labels_and_reports(demo, tmp_path):
    path = tmp_path / "report.json"
    ended = subprocess.run(
        [*demo, "--annotator", "simulated", "--labels", "12", "--report", str(path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    report = json.loads(path.read_text())
    assert report.keys() >= {
        *("labels", "rounds", "model_versions", "true_accuracy", "check_set", "queue_followed"),
        *("seconds_to_new_queue", "label_issues", "pre_annotations"),
    }
    assert report["labels"] == 12
    assert report["queue_followed"] is True
    assert report["rounds"] == len(report["model_versions"]) == len(set(report["model_versions"])) == 13
    assert [one["labels"] for one in report["true_accuracy"]] == [5, 10, 12]
    assert all(0 <= one["accuracy"] <= 1 for one in report["true_accuracy"])
    assert report["true_accuracy"][-1]["accuracy"] > 0.5, "three classes: chance is a third"
    assert (
        0 <= report["check_set"]["low"] <= report["check_set"]["estimate"] <= report["check_set"]["high"] <= 1
    )
    assert report["check_set"]["n"] >= 1
    assert 0 < report["seconds_to_new_queue"]["median"] <= report["seconds_to_new_queue"]["p95"]
    assert report["label_issues"] >= 0
    assert report["pre_annotations"] >= 0


def test_a_second_run_goes_on_where_the_first_stopped_and_ctrl_c_ends_all_of_it(demo, tmp_path):
    output = tmp_path / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(demo, cwd=REPOSITORY, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_until(
            lambda: "Label All Tasks" in output.read_text() or process.poll() is not None, "welcome", 300
        )
        assert process.poll() is None, output.read_text()
        started = descendants(process.pid)
        commands = "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in started)
        assert all(name in commands for name in ("label-studio", "gunicorn", "trainer"))

        login = Credentials.of(Path(demo[demo.index("--directory") + 1]) / "demo" / "label-studio")
        assert login.username in output.read_text()
        assert login.password in output.read_text()
        (address,) = set(re.findall(r"(http://[0-9.:]+)/projects/\d+/", output.read_text()))
        (project,) = LabelStudio(address, login.token).projects()
        assert (project["task_number"], project["num_tasks_with_annotations"]) == (36, 12)
        before = served_round(project)
        assert before >= 13
        label_next(address, login.token, project)
        wait_until(
            lambda: served_round(LabelStudio(address, login.token).project(project["id"])) > before,
            "the second run makes no round of a new label",
            60,
        )

        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not any(map(is_running, started)), "processes of the demo are still running", 20)
    assert "Traceback" not in output.read_text()


def test_ctrl_c_while_it_starts_stops_everything_too(demo, tmp_path):
    output = tmp_path / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(demo, cwd=REPOSITORY, stdout=file, stderr=subprocess.STDOUT)
    try:
        started = wait_until(lambda: descendants(process.pid), "Label Studio has not been started", 60)
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not any(map(is_running, started)), "Label Studio is still running", 20)
    assert "Traceback" not in output.read_text()
