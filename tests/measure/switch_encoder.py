"""A project of 20,000 crops gets another encoder while somebody labels and the backend is killed twice.

    python -m tests.measure.switch_encoder [--crops 20000] [--to efficientnet-lite2]

Labels come at a person's pace all the while. `everylabel serve` is killed (signal 9) when a third and when two thirds of
the crops are embedded with the next encoder, and is started again. It prints one JSON object, and fails where a label is lost,
the label stream ends, `/predict` leaves a crop out, or a crop has no row or shares one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.conftest import LabelStudio, choices_config
from tests.everylabel_process import EveryLabel, wait_until
from tests.measure.large_project import CropServer, import_crops, label_studio_and_home, serving

FIRST_LABELS = 30
PACE_SECONDS = 1.5
"""Between two labels of a person who is quick."""
KILLED_AT = (1 / 3, 2 / 3)
PREDICTED = 8
"""Tasks that `/predict` is asked for at a time."""


@dataclass
class Person:
    """Labels what the label stream shows until told to stop; every answer is kept."""

    label_studio: LabelStudio
    project: int
    truth: dict[int, str]
    labelled: dict[int, str] = field(default_factory=dict)
    found_none: int = 0
    """How often the label stream said that nothing was left."""
    outside: int = 0
    """Crops shown that are in no round's queue."""
    stopping: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None

    def label_one(self) -> None:
        task = self.label_studio.next_task(self.project)
        if task is None:
            self.found_none += 1
            return
        assert task not in self.labelled, f"task {task} is shown twice"
        self.label_studio.annotate(task, self.truth[task])
        self.labelled[task] = self.truth[task]

    def run(self) -> None:
        try:
            while not self.stopping.wait(PACE_SECONDS):
                self.label_one()
        except Exception as error:  # noqa: BLE001 - told by `finish` in the thread that measures
            self.failure = error

    def finish(self, thread: threading.Thread) -> None:
        self.stopping.set()
        thread.join(60)
        if self.failure is not None:
            raise self.failure


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)  # noqa: T201


def predicted(backend: EveryLabel, tasks: list[dict[str, Any]]) -> tuple[set[str], int] | None:
    """Return which models `/predict` answers with, and how many tasks it left out; None while it is down."""
    body = {
        "tasks": tasks,
        "project": f"{tasks[0]['project']}.1",
        "label_config": choices_config("0123456789"),
    }
    try:
        answer = httpx.post(f"{backend.settings.public_url}/predict", json=body, timeout=60)
    except httpx.TransportError:
        return None
    assert answer.is_success, answer.text[:500]
    results = [result for result in answer.json()["results"] if result]
    return {str(result["model_version"]) for result in results}, len(tasks) - len(results)


def measure(label_studio: LabelStudio, home: Path, crops: int, encoder: str) -> dict[str, Any]:
    """Connect, label, switch, kill twice, change over, and go back."""
    found: dict[str, Any] = {"crops": crops, "cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    pictures = CropServer()
    with serving(pictures.answer) as address:
        project = label_studio.create_project("a switch", choices_config("0123456789"))
        ids = import_crops(label_studio, project, range(crops), address)
        truth = {task: pictures.label(number) for number, task in enumerate(ids)}
        backend = EveryLabel(label_studio.url, label_studio.token, home, allow_private_addresses=True)
        backend.start()
        try:
            say(f"{crops} tasks made")
            began = time.monotonic()
            backend.connect(project)
            store = backend.services.store
            wait_until(lambda: store.count_tasks(project)["embedded"] == crops, "crops embedded", 1800)
            found["embedded_s"] = time.monotonic() - began
            say("all crops embedded")
            person = Person(label_studio, project, truth)
            for _ in range(FIRST_LABELS):
                person.label_one()
            backend.wait_for_round(project, labels=len(person.labelled))
            fetched = pictures.fetched.total()
            found |= _switched(backend, person, ids, encoder)
            found["fetched_twice"] = pictures.fetched.total() - fetched - crops
            say(json.dumps(found))
            found |= _back(backend, person)
        finally:
            backend.stop()
    found["load_after"] = os.getloadavg()[0]
    return found


def _switched(backend: EveryLabel, person: Person, ids: list[int], encoder: str) -> dict[str, Any]:
    """Switch under labelling and two kills; what was seen meanwhile, checked."""
    services, project, crops = backend.services, person.project, len(ids)
    store = services.store
    before = services.store.project(project)
    rounds_before = backend.number(project)
    asked = [
        {**person.label_studio.api("GET", f"/api/tasks/{ids[at]}/"), "predictions": [], "annotations": []}
        for at in np.linspace(0, crops - 1, PREDICTED).astype(int)
    ]
    said = backend.command("encoders", "--project", str(project), "--switch", encoder)
    assert said.returncode == 0, said.stderr
    began = time.monotonic()
    thread = threading.Thread(target=person.run, daemon=True)
    thread.start()
    answers, unanswered, killed = 0, 0, []
    due = list(KILLED_AT)
    try:
        while (now := store.project(project)).encoder == before.encoder:
            assert person.failure is None, person.failure
            assert time.monotonic() - began < 3600, services.encoder_switch.progress(now)
            answer = predicted(backend, asked)
            if answer is None:
                unanswered += 1
            else:
                answers += 1
                rounds = {record.number for record in store.rounds(project)}
                assert answer == (answer[0] & {f"round {number} model" for number in rounds}, 0), answer
            progress = services.encoder_switch.progress(now)
            if due and progress is not None and progress.embedded >= due[0] * crops:
                due.pop(0)
                say(f"killed at {progress.embedded} of {crops}, {len(person.labelled)} labels")
                backend.kill()
                killed.append(progress.embedded)
                time.sleep(2 * PACE_SECONDS)  # somebody labels on with nobody there
                backend.start()
            time.sleep(1.0)
        changed = time.monotonic() - began
        say("changed over")
        while_switching = len(person.labelled) - FIRST_LABELS
        time.sleep(4 * PACE_SECONDS)
    finally:
        person.finish(thread)
    assert not due, f"killed {len(killed)} times only"
    latest = backend.wait_for_round(project, labels=len(person.labelled), seconds=180)
    _check(backend, person, crops)
    assert person.label_studio.next_task(project) in (*latest.queue, *latest.pre_annotated)
    return {
        "switch_s": changed,
        "killed_at": killed,
        "labels_while_switching": while_switching,
        "rounds_while_switching": latest.number - rounds_before,
        "nothing_left": person.found_none,
        "predict_answered": answers,
        "predict_down": unanswered,
    }


def _check(backend: EveryLabel, person: Person, crops: int) -> None:
    """Every label is there, and every crop has a row of its own."""
    store, project = backend.services.store, person.project
    wait_until(lambda: backend.labels(project) == person.labelled, "labels differ from what was given", 120)
    held = {
        int(task["id"]): [a["result"][0]["value"]["choices"][0] for a in task["annotations"]]
        for task in person.label_studio.tasks(project)
        if task["annotations"]
    }
    assert held == {task: [label] for task, label in person.labelled.items()}, "Label Studio holds others"
    assert person.found_none == 0, f"the label stream ended {person.found_none} times"
    assert store.count_tasks(project) == {"embedded": crops, "missing": 0, "unreadable": 0}
    rows = [task.embedding_row for task in store.tasks(project)]
    assert len(set(rows)) == crops, "two crops share a row"


def _back(backend: EveryLabel, person: Person) -> dict[str, Any]:
    """Go back to the encoder before; its rows are there still."""
    project, number = person.project, backend.number(person.project)
    began = time.monotonic()
    said = backend.command("encoders", "--project", str(project), "--switch", backend.settings.encoder)
    assert said.returncode == 0, said.stderr
    backend.wait_for_round(project, after=number, seconds=180)
    store = backend.services.store
    wait_until(lambda: store.project(project).encoder_name is None, "the encoder before is not back", 60)

    def is_served() -> bool:
        latest = backend.round(project)
        return person.label_studio.next_task(project) in (*latest.queue, *latest.pre_annotated)

    wait_until(is_served, "the label stream does not follow the newest round", 60)
    return {"back_s": time.monotonic() - began}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--label-studio", type=Path, help="an installed label-studio executable")
    options.add_argument("--crops", type=int, default=20_000)
    options.add_argument("--to", default="efficientnet-lite2", help="the encoder to switch to")
    given = options.parse_args()
    with label_studio_and_home(given.label_studio) as (label_studio, home):
        found = measure(label_studio, home, given.crops, given.to)
    print(json.dumps(found, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
