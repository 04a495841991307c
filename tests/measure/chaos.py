"""Annotators go on labelling while the backend is killed and Label Studio restarts: nothing may be lost.

The test suite runs a short form (`tests/label_studio/test_chaos.py`). The long one, 500 annotations by three
annotators with twenty kills and two restarts, is a command:

    python -m tests.measure.chaos --annotations 500 --kills 20 --restarts 2
    python -m tests.measure.chaos --database postgresql --seeds 3

On PostgreSQL all annotators ask for their next task in the same instant. On SQLite one asks at a time: there Label
Studio chooses and locks a task without a transaction (`conditional_atomic(predicate=db_is_not_sqlite)`), so two who ask
in the same instant can get the same one, whoever made the queue.
"""

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import httpx

from everylabel.scripts.replay import datasets
from everylabel.scripts.replay.datasets import Dataset
from tests.conftest import CACHE, LabelStudio, Project, choice, own_label_studio
from tests.everylabel_process import EveryLabel, descendants, wait_until
from tests.label_studio_setups import DATABASES, postgresql_settings
from tests.servers import Postgres

REPAIRED_SECONDS = 120.0
ROUND_SECONDS = 40.0
"""How soon a round has to come after the last kill, and after a label."""
SPARE = 40
"""Tasks that stay unlabelled, so that there is a next one to check."""


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
    ran_dry: int = 0
    """How often the label stream said that it had ended."""


class Asking:
    """How annotators ask for their next task: one at a time, or as many as are ready in the same instant."""

    TOGETHER_SECONDS = 0.5

    def __init__(self, annotators: int, *, together: bool) -> None:
        self._one = None if together else threading.Lock()
        self._all = threading.Barrier(annotators) if together else None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the block for as long as it takes to ask."""
        if self._one is not None:
            with self._one:
                yield
            return
        if self._all is not None:
            try:
                self._all.wait(self.TOGETHER_SECONDS)
            except (
                threading.BrokenBarrierError
            ):  # somebody still labels: whoever is here goes on without them
                with suppress(threading.BrokenBarrierError):
                    self._all.reset()
        yield


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
    together: bool = False,
    addresses: Sequence[str] = (),
) -> Chaos:
    """Label until `annotations` are in, with kills and restarts spread evenly over them.

    Args:
        label_studio: the one that restarts.
        backend: everylabel, killed again and again.
        project: connected, with at least that many tasks.
        tokens: one for each annotator.
        annotations: how many are to be submitted.
        kills: how often the backend is killed.
        restarts: how often Label Studio is restarted.
        seed: decides what happens when.
        together: annotators ask in the same instant, which takes a database that locks rows.
        addresses: of the web processes that annotators are spread over; `label_studio`'s own if empty.
    """
    chaos, stopping, lock = Chaos(), threading.Event(), threading.Lock()
    asking = Asking(len(tokens), together=together)
    # On a busy machine a fault takes so long that they would label all: some are left for what comes after.
    most = len(project.task_ids) - SPARE
    assert annotations <= most, f"{annotations} annotations need {annotations + SPARE} tasks"
    chance = random.Random(seed)
    started = time.monotonic()

    def label_one(client: httpx.Client) -> None:
        """Label what the label stream shows next."""
        try:
            with asking.turn():
                answer = client.get(f"/api/projects/{project.id}/next/")
            if answer.status_code == httpx.codes.NOT_FOUND:
                with lock:
                    chaos.ran_dry += 1
                stopping.wait(0.5)  # what is left is open at somebody else's: asked again, as a person would
                return
            task = int(answer.raise_for_status().json()["id"])
            body = {"result": choice(project.labels[task]), "lead_time": 1.0}
            answer = client.post(f"/api/tasks/{task}/annotations/", json=body)
        except httpx.HTTPError:
            stopping.wait(0.5)  # Label Studio restarts: the annotator reloads the page
            return
        with lock:
            if answer.is_success:
                chaos.submitted.append(task)
            else:
                chaos.refused.append(f"{answer.status_code} {answer.text[:200]}")

    def annotator(token: str, address: str) -> None:
        with httpx.Client(
            base_url=address,
            headers={"Authorization": f"Token {token}"},
            timeout=60,
            trust_env=False,
        ) as client:
            while not stopping.is_set():
                if len(chaos.submitted) < most:
                    label_one(client)
                else:
                    stopping.wait(0.1)

    shared = cycle(addresses or [label_studio.url])
    threads = [
        threading.Thread(target=annotator, args=(token, next(shared)), daemon=True) for token in tokens
    ]
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
                chaos.kills[kill_some(backend, chance)] += 1
        wait_until(lambda: len(chaos.submitted) >= annotations, f"{annotations} annotations", 600)
    finally:
        stopping.set()
        for thread in threads:
            thread.join(60)
    chaos.annotations, chaos.seconds = len(chaos.submitted), time.monotonic() - started
    return chaos


def kill_some(backend: EveryLabel, chance: random.Random) -> str:
    """Signal 9 for the trainer, the web server, or everything at once; the backend comes back by itself or anew."""
    what = chance.choice(("trainer", "web server", "everything"))
    serve = backend.pid
    children = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(serve)}
    if what == "everything":
        for pid in (serve, *children):
            kill_9(pid)
        backend.stop()
        backend.start()
        return what
    word = "trainer" if what == "trainer" else "gunicorn"
    for pid, command in children.items():
        if word in command:
            kill_9(pid)
    return what


def kill_9(pid: int) -> None:
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
    settled = backend.wait_for_round(project.id, labels=len(truth), seconds=ROUND_SECONDS)
    task = label_studio.next_task(project.id)
    assert task is not None
    assert task in (*settled.queue, *settled.pre_annotated), "the label stream follows the queue"
    label_studio.annotate(task, project.labels[task])
    backend.wait_for_round(project.id, after=settled.number, labels=len(truth) + 1, seconds=ROUND_SECONDS)


def one_run(
    given: argparse.Namespace, seed: int, digits: Dataset, settings: Mapping[str, str] | None
) -> None:
    """Run the long form once, with a Label Studio of its own, and say what happened."""
    with (
        tempfile.TemporaryDirectory() as folder,
        own_label_studio(Path(folder) / "label-studio", given.label_studio, settings) as label_studio,
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
                seed=seed,
                together=settings is not None,
            )
            check(label_studio, backend, project, chaos)
        finally:
            backend.stop()
    print(  # noqa: T201
        f"Seed {seed} on {given.database}: {chaos.annotations} annotations in {chaos.seconds:.0f} s, killed "
        f"{dict(chaos.kills)}, Label Studio restarted {chaos.restarts} times, the label stream empty for somebody "
        f"{chaos.ran_dry} times: labels equal, none served twice, the loop goes on.",
        flush=True,
    )


def main() -> None:
    """The long form, once for each seed."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--annotations", type=int, default=500)
    options.add_argument("--annotators", type=int, default=3)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--restarts", type=int, default=2)
    options.add_argument("--seed", type=int, default=0, help="the first seed")
    options.add_argument("--seeds", type=int, default=1, help="how many seeds, one run each")
    options.add_argument(
        "--database",
        choices=DATABASES,
        default="sqlite",
        help="Label Studio's: on postgresql annotators ask in the same instant, on sqlite one at a time",
    )
    options.add_argument("--label-studio", type=Path, help="an installed label-studio executable")
    given = options.parse_args()
    digits = datasets.load("digits", CACHE / "data")
    with ExitStack() as held:
        postgres = None
        if given.database == "postgresql":
            postgres = Postgres()
            held.callback(postgres.close)
        for seed in range(given.seed, given.seed + given.seeds):
            one_run(given, seed, digits, None if postgres is None else postgresql_settings(postgres))


if __name__ == "__main__":
    main()
