"""Two people label through pages while the backend and Label Studio are killed: each label must be theirs, once.

    python -m tests.measure.label_page_chaos --labels 500 --kills 12

Each person has a Chromium of their own, corrects by key presses what the model has wrong, leaves a crop out now and then, and
reloads where the page says that nobody answers. Signal 9 ends the trainer, the web server, all of the backend, Label Studio,
or both at once, while they go on. A page counts as confirmed once the browser has the backend's answer. In the end Label
Studio must hold exactly what each person has confirmed, as theirs, and the backend's store the same.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Error, Page, Response, sync_playwright

from everylabel.scripts.image_projects import label_config
from everylabel.scripts.local_label_studio.install import environment_in
from everylabel.scripts.local_label_studio.server import LabelStudioServer
from everylabel.scripts.replay import datasets
from tests.browser.conftest import FLAGS, demo_choice
from tests.conftest import CACHE, CHROMIUM_MISSING, LabelStudio, Project
from tests.everylabel_process import EveryLabel, wait_until
from tests.measure.chaos import kill_some, sign_up

PEOPLE = ("ada", "grace")
FIRST = 60
"""Labels before the first page."""
SPARE = 150
"""Crops that stay unlabelled, so that there are pages to the end."""
OUTAGE_SECONDS = 600.0
"""How long a person waits at most until a page is confirmed, an outage included."""
ARRIVED_SECONDS = 300.0
STARTED_SECONDS = 600.0
"""How long Label Studio may take to start on a busy machine."""
LEFT_OUT = 0.04
"""The share of crops that a person leaves out."""
FAULTS = ("backend", "backend", "Label Studio", "both")

CELLS = (
    "cells => cells.map(cell => [Number(cell.dataset.task), "
    "['open', 'left-out'].includes(cell.dataset.state) ? null : cell.querySelector('.given').textContent])"
)


@dataclass
class Person:
    """Somebody who labels through pages, in a thread and a browser of their own.

    Attributes:
        confirmed: The labels of each page the backend has taken in, by task.
        given: The tasks of those pages, the ones left out included.
        reloads: How often the page had to be loaded again.
        failed: What ended the thread, where that was an error.
    """

    name: str
    token: str
    address: str
    truth: dict[int, str]
    chance: random.Random
    stopping: threading.Event
    confirmed: dict[int, str] = field(default_factory=dict)
    given: list[int] = field(default_factory=list)
    pages: int = 0
    reloads: int = 0
    failed: Exception | None = None

    def run(self, chromium: str) -> None:
        """Label page after page until told to stop."""
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.set_default_timeout(60_000)
                self._open(page)
                while not self.stopping.is_set():
                    self._label_page(page)
                browser.close()
        except (Error, AssertionError) as error:  # told by the main thread
            self.failed = error
            self.stopping.set()

    def _open(self, page: Page) -> None:
        page.goto(self.address)
        page.get_by_label("Your Label Studio token").fill(self.token)
        page.get_by_role("button", name="Sign in").click()
        page.locator("#grid .cell").first.wait_for()

    def _label_page(self, page: Page) -> None:
        cells = dict(page.eval_on_selector_all("#grid .cell", CELLS))
        if not cells:  # nothing on show: an outage, or the other person has the rest
            self.stopping.wait(1)
            self._reload(page)
            return
        for task, label in cells.items():
            key = "Backspace" if self.chance.random() < LEFT_OUT else self.truth[task]
            if key == label:
                continue
            page.locator(f"[data-task='{task}']").focus()
            page.keyboard.press(key)
        chosen = dict(page.eval_on_selector_all("#grid .cell", CELLS))
        wanted = {task: label for task, label in chosen.items() if label is not None}
        assert wanted == {task: self.truth[task] for task in wanted}, "the keys gave what was meant"
        self._confirm(page, [*cells], wanted)

    def _confirm(self, page: Page, tasks: list[int], wanted: dict[int, str]) -> None:
        answers: list[Response] = []

        def note(answer: Response) -> None:
            if answer.url.endswith("/confirm") and answer.ok:
                answers.append(answer)

        page.on("response", note)
        page.locator("#grid .cell").first.focus()
        page.keyboard.press("Enter")
        until = time.monotonic() + OUTAGE_SECONDS
        while not answers:
            assert time.monotonic() < until, (
                f"{self.name}'s page was not confirmed: {page.inner_text('#problem')}"
            )
            page.wait_for_timeout(100)
        page.remove_listener("response", note)
        sent = answers[0].request.post_data_json["labels"]
        assert {int(task): label for task, label in sent.items()} == wanted
        self.confirmed |= wanted
        self.given += tasks
        self.pages += 1
        with suppress(Error):  # no page is left, or nobody answers: the next turn sees to it
            page.wait_for_function(
                "task => document.querySelector('#grid .cell')?.dataset.task !== task",
                arg=str(tasks[0]),
                timeout=60_000,
            )
        if page.locator(f"#grid .cell[data-task='{tasks[0]}']").count():
            self._reload(page)

    def _reload(self, page: Page) -> None:
        self.reloads += 1
        until = time.monotonic() + OUTAGE_SECONDS
        while not self.stopping.is_set():
            try:
                page.goto(self.address)  # nothing of a load that failed is pending after it
                break
            except Error:  # the backend is down
                assert time.monotonic() < until, f"{self.name}'s page was not loaded"
                page.wait_for_timeout(1000)
        with suppress(Error):  # no page is left, or nobody answers: the next turn sees to it
            page.locator("#grid .cell").first.wait_for()


def kill(fault: str, label_studio: LabelStudio, backend: EveryLabel, chance: random.Random) -> str:
    """Kill one side or both, and return once both are back; what was killed is returned."""
    told = []
    if fault != "backend":
        assert label_studio.server.pid is not None
        os.killpg(label_studio.server.pid, signal.SIGKILL)  # it leads a group of its own
        told.append("Label Studio")
    if fault != "Label Studio":
        told.append(kill_some(backend, chance))
    if fault != "backend":
        label_studio.server.restart()
    return " and ".join(told)


def held_by(label_studio: LabelStudio, project: Project) -> dict[int, list[tuple[int, str]]]:
    """Return each person's annotations in Label Studio: task and class."""
    found: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for task in label_studio.tasks(project.id):
        for one in task["annotations"]:
            by = one["completed_by"]
            found[by["id"] if isinstance(by, dict) else by].append(
                (task["id"], one["result"][0]["value"]["choices"][0])
            )
    return {who: sorted(labels) for who, labels in found.items()}


def check(
    label_studio: LabelStudio,
    backend: EveryLabel,
    project: Project,
    people: dict[int, Person],
    first: dict[int, str],
) -> None:
    """Wait until everything has arrived, and fail where something is missing, doubled, or somebody else's."""
    # A crop that one person leaves out may be given to the other, and never to the same one again.
    for person in people.values():
        again = [task for task, times in Counter(person.given).items() if times > 1]
        assert not again, (f"on two pages of {person.name}", again)
    labelled = Counter(task for person in people.values() for task in person.confirmed)
    both = [task for task, times in labelled.items() if times > 1]
    assert not both, ("labelled by both", both)
    wanted = {who: sorted(person.confirmed.items()) for who, person in people.items()}
    deadline = time.monotonic() + ARRIVED_SECONDS
    held: dict[int, list[tuple[int, str]]] = {}
    while held != wanted and time.monotonic() < deadline:
        # Reading all annotations keeps Label Studio busy for seconds: it is asked once the backend has sent them.
        if not backend.services.store.labels_to_do(project.id):
            held = {who: labels for who, labels in held_by(label_studio, project).items() if who in people}
        time.sleep(1)
    late = backend.services.store.labels_to_do(project.id)
    assert held or not late, f"{len(late)} labels have not arrived within {ARRIVED_SECONDS:.0f} s"
    for who, person in people.items():
        differing = {*held.get(who, [])} ^ {*wanted[who]}
        assert held.get(who) == wanted[who], (person.name, sorted(differing)[:5], len(held.get(who, [])))
    everything = first | {
        task: label for person in people.values() for task, label in person.confirmed.items()
    }
    wait_until(lambda: backend.labels(project.id) == everything, "the store differs from Label Studio", 120)
    waiting = backend.services.store.labels_to_do(project.id)
    assert not waiting, f"{len(waiting)} labels are sent and still counted as waiting"


def one_run(given: argparse.Namespace, label_studio: LabelStudio, folder: Path, chromium: str) -> str:
    """Label with two people while either side is killed, and return what happened."""
    digits = datasets.load("digits", CACHE / "data")
    backend = EveryLabel(label_studio.url, label_studio.token, folder)
    backend.start()
    chance, stopping, killed = random.Random(given.seed), threading.Event(), Counter[str]()
    try:
        count = FIRST + given.labels + SPARE
        project = label_studio.digits_project(digits, count, "pages", label_config(digits.classes))
        first = {task: project.labels[task] for task in project.task_ids[:FIRST]}
        for task, label in first.items():
            label_studio.annotate(task, label, result=demo_choice(label))
        backend.connect(project.id)
        tokens = sign_up(label_studio, PEOPLE)
        address = f"{backend.settings.public_url}/projects/{project.id}/label"
        people = {}
        for number, (name, token) in enumerate(zip(PEOPLE, tokens, strict=True)):
            me = label_studio.client.get(
                "/api/current-user/whoami", headers={"Authorization": f"Token {token}"}
            ).json()
            person = Person(
                name, token, address, project.labels, random.Random(given.seed + number), stopping
            )
            people[int(me["id"])] = person
        threads = [
            threading.Thread(target=person.run, args=(chromium,), daemon=True) for person in people.values()
        ]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        _torment(given, label_studio, backend, [*people.values()], chance, killed)
        stopping.set()
        for thread in threads:
            thread.join(OUTAGE_SECONDS + 60)
        seconds = time.monotonic() - started
        for person in people.values():
            if person.failed is not None:
                raise person.failed
        check(label_studio, backend, project, people, first)
        shares = ", ".join(f"{one.name} {len(one.confirmed)} on {one.pages} pages" for one in people.values())
        reloads = sum(one.reloads for one in people.values())
        return (
            f"Seed {given.seed}: {shares}, in {seconds:.0f} s; killed {dict(killed)}; {reloads} reloads. "
            "Label Studio and the store hold each label once, as its person's."
        )
    finally:
        stopping.set()
        backend.stop()


def _torment(
    given: argparse.Namespace,
    label_studio: LabelStudio,
    backend: EveryLabel,
    people: list[Person],
    chance: random.Random,
    killed: Counter[str],
) -> None:
    """Spread the kills over the labels, and return once there are as many labels as wanted."""

    def labelled() -> int:
        return sum(len(person.confirmed) for person in people)

    faults = [FAULTS[number % len(FAULTS)] for number in range(given.kills)]
    chance.shuffle(faults)
    for number, fault in enumerate([*faults, None], start=1):
        due = given.labels * number // (len(faults) + 1)
        wait_until(
            lambda due=due: labelled() >= due or people[0].stopping.is_set(), f"{due} labels", given.patience
        )
        if people[0].stopping.is_set():  # a person's browser has met an error
            return
        if fault is not None:
            time.sleep(chance.uniform(0, 3))
            killed[kill(fault, label_studio, backend, chance)] += 1


def main() -> None:
    """Run once, with a Label Studio of its own."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--labels", type=int, default=500, help="of both people together")
    options.add_argument("--kills", type=int, default=12)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--patience", type=float, default=600.0, help="seconds until the next kill is due")
    given = options.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        options.error(CHROMIUM_MISSING)
    with (
        tempfile.TemporaryDirectory() as folder,
        LabelStudioServer(
            Path(folder) / "label-studio",
            environment_dir=environment_in(CACHE),
            start_timeout=STARTED_SECONDS,
        ) as server,
    ):
        print(one_run(given, LabelStudio(server), Path(folder), chromium), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
