"""Annotators go on labelling while the backend is killed and Label Studio restarts: nothing may be lost.

The test suite runs a short form (`tests/label_studio/test_chaos.py`). The long one, 500 annotations by three
annotators with twenty kills and two restarts, is a command:

    python -m tests.chaos --annotations 500 --kills 20 --restarts 2
"""

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from scripts import datasets
from tests.conftest import CACHE, LabelStudio, Project, choice, own_label_studio
from tests.everylabel_process import EveryLabel, descendants, wait_until

REPAIRED_SECONDS = 120.0


@dataclass
class Chaos:
    """What happened."""

    annotations: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    submitted: list[int] = field(default_factory=list)
    """The task of every annotation that Label Studio has acknowledged."""
    refused: list[str] = field(default_factory=list)
    seconds: float = 0.0


def sign_up(label_studio: LabelStudio, names: Sequence[str]) -> list[str]:
    """Let annotators join through Label Studio's invitation link; returns their tokens."""
    address = label_studio.api("GET", "/api/invite")["invite_url"]
    tokens = []
    for name in names:
        with httpx.Client(
            base_url=label_studio.url, follow_redirects=True, timeout=60, trust_env=False
        ) as browser:
            browser.get(address)
            form = {
                "email": f"{name}@example.com",
                "password": f"{name}-has-A-pass-4",
                "allow_newsletters": "",
            }
            browser.post(address, data=form | {"csrfmiddlewaretoken": browser.cookies["csrftoken"]})
            tokens.append(str(browser.get("/api/current-user/token").raise_for_status().json()["token"]))
    return tokens


def run(
    label_studio: LabelStudio,
    backend: EveryLabel,
    project: Project,
    tokens: Sequence[str],
    *,
    annotations: int,
    kills: int,
    restarts: int,
    seed: int = 0,
) -> Chaos:
    """Label until `annotations` are in, with kills and restarts spread evenly over them."""
    chaos, stopping, lock = Chaos(), threading.Event(), threading.Lock()
    # One asks at a time: on SQLite, Label Studio 1.23.2 chooses and locks a task without a transaction
    # (`conditional_atomic(predicate=db_is_not_sqlite)`), so two who ask in the same instant can get the same
    # one, whoever made the queue. What is tested here is what everylabel puts into it.
    asking = threading.Lock()
    chance = random.Random(seed)
    started = time.monotonic()

    def label_one(client: httpx.Client) -> bool:
        """Label what the label stream shows next; False when it has ended."""
        try:
            with asking:
                answer = client.get(f"/api/projects/{project.id}/next")
            if answer.status_code == httpx.codes.NOT_FOUND:
                return False
            task = int(answer.raise_for_status().json()["id"])
            body = {"result": choice(project.labels[task]), "lead_time": 1.0}
            answer = client.post(f"/api/tasks/{task}/annotations", json=body)
        except httpx.HTTPError:
            stopping.wait(0.5)  # Label Studio restarts: the annotator reloads the page
            return True
        with lock:
            if answer.is_success:
                chaos.submitted.append(task)
            else:
                chaos.refused.append(f"{answer.status_code} {answer.text[:200]}")
        return True

    def annotator(token: str) -> None:
        with httpx.Client(
            base_url=label_studio.url,
            headers={"Authorization": f"Token {token}"},
            timeout=60,
            trust_env=False,
        ) as client:
            while not stopping.is_set():
                if not label_one(client):
                    return

    threads = [threading.Thread(target=annotator, args=(token,), daemon=True) for token in tokens]
    for thread in threads:
        thread.start()
    faults = ["kill"] * kills + ["restart"] * restarts
    chance.shuffle(faults)
    try:
        for number, fault in enumerate(faults, start=1):
            due = annotations * number // (len(faults) + 1)
            wait_until(lambda due=due: len(chaos.submitted) >= due, f"{due} annotations", 600)
            if fault == "restart":
                label_studio.server.restart()
                chaos.restarts += 1
            else:
                chaos.kills[_kill(backend, chance)] += 1
        wait_until(lambda: len(chaos.submitted) >= annotations, f"{annotations} annotations", 600)
    finally:
        stopping.set()
        for thread in threads:
            thread.join(60)
    chaos.annotations, chaos.seconds = len(chaos.submitted), time.monotonic() - started
    return chaos


def _kill(backend: EveryLabel, chance: random.Random) -> str:
    """Signal 9 for the trainer, the web server, or everything at once; the backend comes back by itself or anew."""
    what = chance.choice(("trainer", "web server", "everything"))
    serve = backend.pid
    children = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(serve)}
    if what == "everything":
        for pid in (serve, *children):
            _kill_9(pid)
        backend.stop()
        backend.start()
        return what
    word = "trainer" if what == "trainer" else "gunicorn"
    for pid, command in children.items():
        if word in command:
            _kill_9(pid)
    return what


def _kill_9(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def labels_in(label_studio: LabelStudio, project: Project) -> dict[int, list[str]]:
    """What Label Studio holds: the choices of each annotated task."""
    return {
        int(task["id"]): [a["result"][0]["value"]["choices"][0] for a in task["annotations"]]
        for task in label_studio.tasks(project.id)
        if task["annotations"]
    }


def check(label_studio: LabelStudio, backend: EveryLabel, project: Project, chaos: Chaos) -> None:
    """Nothing is lost, nobody labelled a crop twice, and the loop goes on."""
    held = labels_in(label_studio, project)
    assert not chaos.refused, chaos.refused[:3]
    twice = {task: choices for task, choices in held.items() if len(choices) > 1}
    assert not twice, f"served twice: {twice}"
    truth = {task: choices[0] for task, choices in held.items()}
    assert set(chaos.submitted) <= set(truth), "Label Studio has lost what it acknowledged"
    # Killed between saving a label and telling of it, Label Studio never tells: the next comparison finds it.
    deadline = time.monotonic() + REPAIRED_SECONDS
    while (labels := backend.labels(project.id)) != truth and time.monotonic() < deadline:
        time.sleep(0.2)
    wrong = {task: (truth.get(task), labels.get(task)) for task in {*truth, *labels}}
    assert labels == truth, {task: both for task, both in wrong.items() if both[0] != both[1]}
    settled = backend.wait_for_round(project.id, labels=len(truth))
    task = label_studio.next_task(project.id)
    assert task is not None
    assert task in (*settled.queue, *settled.pre_annotated), "the label stream follows the queue"
    label_studio.annotate(task, project.labels[task])
    backend.wait_for_round(project.id, after=settled.number, labels=len(truth) + 1)


def main() -> None:
    """The long form, with a Label Studio of its own."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--annotations", type=int, default=500)
    options.add_argument("--annotators", type=int, default=3)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--restarts", type=int, default=2)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--label-studio", type=Path, help="an installed label-studio executable")
    given = options.parse_args()
    digits = datasets.load("digits", CACHE / "data")
    with (
        tempfile.TemporaryDirectory() as folder,
        own_label_studio(Path(folder) / "label-studio", given.label_studio) as label_studio,
    ):
        backend = EveryLabel(label_studio.url, label_studio.token, Path(folder))
        backend.start()
        try:
            project = label_studio.digits_project(digits, given.annotations + 200)
            backend.connect(project.id)
            tokens = sign_up(label_studio, [f"annotator{i}" for i in range(given.annotators)])
            chaos = run(
                label_studio,
                backend,
                project,
                tokens,
                annotations=given.annotations,
                kills=given.kills,
                restarts=given.restarts,
                seed=given.seed,
            )
            check(label_studio, backend, project, chaos)
        finally:
            backend.stop()
    print(  # noqa: T201
        f"{chaos.annotations} annotations in {chaos.seconds:.0f} s, killed {dict(chaos.kills)}, Label Studio "
        f"restarted {chaos.restarts} times: labels equal, none served twice, the loop goes on."
    )


if __name__ == "__main__":
    main()
