"""The compose file as it is, in containers: labelled, killed, restarted, confined.

What a real registry alone could show is not shown here: the base image and Label Studio's own image are stand-ins made
from packages (`images.py`), so neither Docker's Python nor Label Studio's entry point has been run.
"""

import json
import os
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import LabelStudio, Project
from tests.containers.conftest import COMPOSE_FILE, Deployment
from tests.everylabel_process import descendants, wait_until

# Making the images is not counted: it takes minutes, and as long as packages take to come.
pytestmark = pytest.mark.timeout(600, func_only=True)

MEMORY = Path(__file__).with_name("memory.py").read_text()
LABELS = 25
OUTSIDE_THE_HOLE = "172.28.90.10"  # the first address behind it, in the same network
LISTENING_PORT = 9090
#: What an engine itself puts into a container for its mounts.
MADE_BY_THE_ENGINE = {"/data", "/etc", "/run", "/run/.containerenv", "/etc/mtab", "/tmp"}


@dataclass
class Session:
    """A simulated annotator's work: each task served, and the versions that were current before and after."""

    labels: dict[int, str] = field(default_factory=dict)
    served: list[tuple[int, set[str]]] = field(default_factory=list)
    webhooks: list[int] = field(default_factory=list)
    """How many annotations everylabel had been told of after each label."""


@pytest.fixture(scope="module")
def project(deployment: Deployment, digits: Any) -> Project:
    project = deployment.label_studio.digits_project(digits, 120, "containers")
    said = deployment.compose.exec("everylabel", "everylabel", "connect", "--project", str(project.id))
    assert deployment.label_studio.next_task(project.id), said
    return project


def memory(deployment: Deployment, project: int) -> dict[str, dict[str, Any]]:
    """What the backend in the container remembers."""
    printed = deployment.compose.exec("everylabel", "python", "-c", MEMORY, str(project))
    return json.loads(printed.splitlines()[-1])


def version(label_studio: LabelStudio, project: int) -> str:
    return str(label_studio.api("GET", f"/api/projects/{project}/")["model_version"])


def told(deployment: Deployment) -> int:
    """How many annotations webhooks have told this web server of."""
    text = deployment.everylabel.get("/metrics").raise_for_status().text
    found = re.findall(r'everylabel_events_total\{action="ANNOTATION_CREATED"\} (\S+)', text)
    return int(sum(map(float, found)))


def label(deployment: Deployment, project: Project, session: Session, number: int) -> None:
    """Label what *Label All Tasks* shows, over the published ports, each with a queue made of the one before."""
    label_studio = deployment.label_studio
    for _ in range(number):
        before = version(label_studio, project.id)
        task = label_studio.next_task(project.id)
        assert task is not None
        session.served.append((task, {before, version(label_studio, project.id)}))
        label_studio.annotate(task, project.labels[task])
        session.labels[task] = project.labels[task]
        wait_until(
            lambda before=before: version(label_studio, project.id) != before, "no new queue came", 120
        )
        session.webhooks.append(told(deployment))


def labels_in(label_studio: LabelStudio, project: int) -> dict[int, str]:
    return {
        int(task["id"]): task["annotations"][0]["result"][0]["value"]["choices"][0]
        for task in label_studio.tasks(project)
        if task["annotations"]
    }


def check(deployment: Deployment, project: Project, session: Session) -> None:
    """Labels are equal on both sides, and what was served was asked for."""
    held = memory(deployment, project.id)
    truth = labels_in(deployment.label_studio, project.id)
    assert truth == session.labels
    assert {int(task): label for task, label in held["labels"].items()} == truth
    labelled: set[int] = set()
    for task, versions in session.served:
        heads = {
            next((asked for asked in held["rounds"][name] if asked not in labelled), None)
            for name in versions
            if name in held["rounds"]
        }
        assert task in heads, f"task {task} was served, {heads} asked for under {versions}"
        labelled.add(task)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_labels_survive_a_kill_and_a_restart_and_the_queue_is_followed(deployment, project):
    session = Session()
    label(deployment, project, session, 10)
    assert session.webhooks == list(range(1, 11)), "each label was told of by a webhook, through the hole"

    os.kill(deployment.podman.pid(deployment.compose.container("everylabel")), signal.SIGKILL)
    task = deployment.label_studio.next_task(project.id)  # somebody goes on labelling meanwhile
    session.served.append((task, {version(deployment.label_studio, project.id)}))
    deployment.label_studio.annotate(task, project.labels[task])
    session.labels[task] = project.labels[task]
    deployment.compose.run("up", "--detach", "--no-build", "--pull", "never", "everylabel")
    deployment.wait_until_both_answer()
    wait_until(
        lambda: len(memory(deployment, project.id)["labels"]) == 11, "the label given meanwhile is lost", 120
    )
    label(deployment, project, session, 7)

    deployment.compose.run("restart", "--timeout", "10", "label-studio")
    deployment.wait_until_both_answer()
    label(deployment, project, session, LABELS - 18)
    assert len(session.labels) == LABELS
    check(deployment, project, session)


def test_label_studio_reaches_the_backend_and_no_other_private_address(deployment, project):
    """Something listens behind the hole, and is never asked."""
    podman, label_studio = deployment.podman, deployment.label_studio
    network = next(
        iter(podman.inspect(deployment.compose.container("everylabel"))["NetworkSettings"]["Networks"])
    )
    listener = podman.run(
        *("run", "--detach", "--network", network, "--ip", OUTSIDE_THE_HOLE, "python:3.11-slim"),
        *("python", "-u", "-m", "http.server", str(LISTENING_PORT)),
    ).strip()
    url = f"http://{OUTSIDE_THE_HOLE}:{LISTENING_PORT}"
    ask = f"import urllib.request as http; print(http.urlopen('{url}/reachable', timeout=5).status)"
    try:
        wait_until(
            lambda: (
                deployment.compose.try_run(
                    "exec", "-T", "label-studio", "python3", "-c", ask.replace("/reachable", "/")
                ).returncode
                == 0
            ),
            "nobody listens there, so that a refusal would show nothing",
        )
        refused = label_studio.client.post(
            "/api/ml", json={"project": project.id, "url": url, "title": "outside"}
        )
        assert refused.status_code in {400, 403}, refused.text
        assert "reserved network" in refused.text
        for address in (f"{url}/webhook", "http://172.28.90.7:8080/webhook", "http://127.0.0.1:8080/webhook"):
            body = {"project": project.id, "url": address, "send_for_all_actions": True, "is_active": True}
            label_studio.client.post("/api/webhooks/", json=body)
        task = label_studio.next_task(project.id)
        before = told(deployment)
        label_studio.annotate(task, project.labels[task])
        wait_until(lambda: told(deployment) == before + 1, "the webhook through the hole did not arrive")
        asked = podman.try_run("logs", listener)
        assert "webhook" not in asked.stdout + asked.stderr
        assert "POST" not in asked.stdout + asked.stderr
    finally:
        podman.try_run("rm", "--force", "--time", "0", listener)


def test_nothing_is_written_outside_the_volume_and_nothing_is_root(deployment, project):
    container = deployment.compose.container("everylabel")
    changed = {line.split(None, 1)[1] for line in deployment.podman.run("diff", container).splitlines()}
    assert changed <= MADE_BY_THE_ENGINE
    # The engine lays memory over these two where the file asks for /tmp alone.
    assert deployment.compose.exec("everylabel", "find", "/run", "/var/tmp", "-user", "10001") == ""
    for path in ("/opt/everylabel/x", "/home/everylabel/x", "/etc/x"):
        refused = deployment.compose.try_run("exec", "-T", "everylabel", "touch", path)
        assert "Read-only file system" in refused.stdout + refused.stderr
    for service, user in (("everylabel", "10001"), ("label-studio", "1001")):
        first = deployment.podman.pid(deployment.compose.container(service))
        for pid in {first, *descendants(first)}:
            state = status(pid)
            assert set(state["Uid"].split()) == {user}, state["Name"]
            assert int(state["CapEff"], 16) == int(state["CapBnd"], 16) == 0, state["Name"]
            assert state["NoNewPrivs"] == "1", state["Name"]


def test_memory_and_processes_have_the_limits_the_file_names(deployment):
    services = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    for name in ("label-studio", "everylabel"):
        host = deployment.podman.inspect(deployment.compose.container(name))["HostConfig"]
        assert services[name]["mem_limit"].endswith("-4g}")
        assert host["Memory"] == 4 * 1024**3
        assert host["PidsLimit"] == services[name]["pids_limit"]
        inside = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true"
        enforced = deployment.compose.exec(name, "sh", "-c", inside).split()
        assert enforced == [str(4 * 1024**3)]


def test_a_dead_trainer_is_seen_by_the_containers_check_and_not_by_label_studio(deployment):
    container = deployment.compose.container("everylabel")
    healthy = lambda: deployment.podman.try_run("healthcheck", "run", container).returncode == 0  # noqa: E731
    wait_until(healthy, "the check fails although the trainer lives")
    first = deployment.podman.pid(container)
    trainer = next(
        pid
        for pid in descendants(first)
        if b"trainer" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    )
    os.kill(trainer, signal.SIGSTOP)
    try:
        wait_until(lambda: deployment.health()["trainer"] == "not running", "a dead trainer is not seen", 60)
        started = time.monotonic()
        assert deployment.everylabel.get("/health").status_code == httpx.codes.OK
        assert time.monotonic() - started < 1.0, "Label Studio waits a second"
        assert deployment.health()["status"] == "UP"
        assert not healthy()
    finally:
        os.kill(trainer, signal.SIGCONT)
    wait_until(healthy, "the check goes on failing")


def test_the_image_for_a_cpu_is_small(podman):
    (image,) = json.loads(podman.run("image", "inspect", "everylabel:0.1.0"))
    assert image["Size"] <= 1.3e9
