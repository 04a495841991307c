"""How long an annotator, and the queue, wait for everylabel: measured against a real Label Studio.

    python -m tests.measure.latency --label-studio PATH                  # all parts
    python -m tests.measure.latency --part webhook --seconds 30          # one of them

It prints one JSON object. Parts:

webhook   seconds a webhook takes, eight senders at once, while rounds train and crops are embedded: once with
          each sender at full speed, once with a person's pauses
submit    an annotator's submit with everylabel's webhook and without one, in turn; `slower_ms` is the difference
          of the medians
next      from an annotation to the first task of the new batch in `/next`: `--crops` says in how large a pool.
          Beyond the digits there are, crops are synthetic: embeddings put straight into the store
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from tests.conftest import LabelStudio, Project, choice, choices_config, own_label_studio
from tests.everylabel_process import REPOSITORY, EveryLabel, wait_until
from tests.stand_in_label_studio import data_uri, png

SENDERS = 8
IMPORTED_AT_ONCE = 5000


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """The distribution of some durations."""
    found = np.percentile(np.asarray(seconds) * 1000, [50, 95, 99, 100]).round(1).tolist()
    return {"n": len(seconds), **dict(zip(("p50", "p95", "p99", "max"), found, strict=True))}


class Bench:
    """A Label Studio, an everylabel, and digits as tasks."""

    def __init__(self, label_studio: LabelStudio, home: Path, **settings: Any) -> None:
        self.label_studio = label_studio
        self.home = home
        self.settings = settings
        digits = load_digits()
        self.crops = [data_uri(png(pixels)) for pixels in digits.images]
        self.classes = [str(target) for target in digits.target]

    def backend(self, name: str) -> EveryLabel:
        """A running everylabel with a memory of its own."""
        (self.home / name).mkdir()
        backend = EveryLabel(
            self.label_studio.url, self.label_studio.token, self.home / name, **self.settings
        )
        backend.start()
        return backend

    def project(self, title: str, crops: Sequence[str]) -> Project:
        """A project of these crops, imported in bulk; digits repeat, as do their classes."""
        project = self.label_studio.create_project(title, choices_config("0123456789"))
        ids: list[int] = []
        for start in range(0, len(crops), IMPORTED_AT_ONCE):
            tasks = [{"data": {"image": crop}} for crop in crops[start : start + IMPORTED_AT_ONCE]]
            path = f"/api/projects/{project}/import"
            answer = self.label_studio.api("POST", path, params={"return_task_ids": "true"}, json=tasks)
            ids += sorted(answer["task_ids"])
        labels = {id_: self.classes[i % len(self.classes)] for i, id_ in enumerate(ids)}
        return Project(project, tuple(ids), labels)

    def digits(self, count: int) -> list[str]:
        """As many digits as asked for, in their order, again and again."""
        return [self.crops[i % len(self.crops)] for i in range(count)]


def webhooks(bench: Bench, seconds: float) -> dict[str, Any]:
    """Webhooks of eight senders while a project's rounds train and another's crops are embedded."""
    backend = bench.backend("webhooks")
    try:
        project = bench.project("webhooks", bench.digits(2000))
        backend.connect(project.id)
        for task in project.task_ids[:30]:
            bench.label_studio.annotate(task, project.labels[task])
        backend.wait_for_round(project.id, labels=30)
        busy = bench.project("busy", [])
        # Connected while it is empty: its crops are then embedded by the trainer, and not by `connect`.
        with suppress(IndexError):
            backend.connect(busy.id)
        tasks = [{"data": {"image": crop}} for crop in bench.digits(20_000)]
        for start in range(0, len(tasks), IMPORTED_AT_ONCE):
            chunk = tasks[start : start + IMPORTED_AT_ONCE]
            bench.label_studio.api("POST", f"/api/projects/{busy.id}/import", json=chunk)
        store = backend.services.store
        wait_until(lambda: store.count_tasks(busy.id)["embedded"] > 0, "crops are embedded", 300)
        found: dict[str, Any] = {}
        for name, pause in (("a person's pauses", 0.5), ("full speed", 0.0)):
            rounds = store.latest_round(project.id)
            embedded = store.count_tasks(busy.id)["embedded"]
            taken = _send(backend, project, seconds, pause)
            after = store.latest_round(project.id)
            found[name] = {
                **milliseconds(taken),
                "rounds_meanwhile": (after.number if after else 0) - (rounds.number if rounds else 0),
                "embedded_meanwhile": store.count_tasks(busy.id)["embedded"] - embedded,
            }
        return found
    finally:
        backend.stop()


def _send(backend: EveryLabel, project: Project, seconds: float, pause: float) -> list[float]:
    """Let eight senders send; returns what each webhook took."""
    template = {
        "action": "ANNOTATION_CREATED",
        "project": {"id": project.id, "title": "webhooks", "label_config": choices_config("0123456789")},
        "annotation": {
            "result": choice("3"),
            "was_cancelled": False,
            "completed_by": 1,
            "created_at": "2026-01-01T00:00:00.000000Z",
            "updated_at": "2026-01-01T00:00:00.000000Z",
        },
        "task": {"data": {}},
    }
    senders = []
    for number in range(SENDERS):
        tasks = project.task_ids[100 + number :: SENDERS]
        arguments = [
            "--first-id",
            str(10**6 * (number + 1)),
            "--seconds",
            str(seconds),
            "--pause",
            str(pause),
        ]
        sender = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.measure.webhook_sender",
                str(backend.port),
                *map(str, tasks),
                *arguments,
            ],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert sender.stdin is not None
        sender.stdin.write(json.dumps(template).encode())
        sender.stdin.close()
        senders.append(sender)
    taken: list[float] = []
    for sender in senders:
        assert sender.stdout is not None
        taken += json.load(sender.stdout)
        assert sender.wait() == 0
    return taken


def submits(bench: Bench, count: int) -> dict[str, Any]:
    """An annotator's submit with everylabel's webhook and without any, in turn."""
    backend = bench.backend("submits")
    try:
        connected = bench.project("connected", bench.digits(1000))
        plain = bench.project("plain", bench.digits(1000))
        backend.connect(connected.id)
        taken: dict[int, list[float]] = {connected.id: [], plain.id: []}
        for number in range(count):
            # In turn, and whoever is first in turn too: both see the same machine.
            for project in ((connected, plain), (plain, connected))[number % 2]:
                task = project.task_ids[number]
                started = time.perf_counter()
                bench.label_studio.annotate(task, project.labels[task])
                taken[project.id].append(time.perf_counter() - started)
                time.sleep(0.3)
        with_it, without = milliseconds(taken[connected.id]), milliseconds(taken[plain.id])
        slower = round(with_it["p50"] - without["p50"], 1)
        return {"connected": with_it, "no webhook": without, "slower_ms": slower}
    finally:
        backend.stop()


def next_batch(bench: Bench, crops: int, count: int) -> dict[str, Any]:
    """From an annotation to the first task of the new batch in `/next`."""
    backend = bench.backend(f"next-{crops}")
    try:
        synthetic = crops > 2 * len(bench.crops)
        images = bench.crops[:1] * crops if synthetic else bench.digits(crops)
        project = bench.project(f"{crops} crops", images)
        if synthetic:
            project = _embed_synthetic(backend, project)
        backend.connect(project.id)
        settled = backend.wait_for_round(project.id)
        taken, rounds = [], []
        for number in range(count + 20):
            task = bench.label_studio.next_task(project.id)
            assert task is not None
            bench.label_studio.annotate(task, project.labels[task])
            submitted = time.perf_counter()
            served = _first_of_new_batch(bench, backend, project, settled.number)
            settled = backend.wait_for_round(project.id, after=settled.number, labels=number + 1)
            if number >= 20:  # the first rounds have no model to train yet
                taken.append(served - submitted)
                rounds.append(sum(settled.seconds.values()))
        return {**milliseconds(taken), "round_itself": milliseconds(rounds)}
    finally:
        backend.stop()


def _first_of_new_batch(bench: Bench, backend: EveryLabel, project: Project, before: int) -> float:
    """The moment `/next` has answered with a task of a newer round."""
    store = backend.services.store

    def published() -> Any:
        latest = store.latest_round(project.id)
        return latest if latest and latest.number > before and latest.published_at else None

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        # Asked of everylabel's memory first: asking Label Studio again and again would slow it down.
        latest = wait_until(published, "a new round", 120)
        task = bench.label_studio.next_task(project.id)
        if task in latest.queue:
            return time.perf_counter()
        before = latest.number - 1
    raise TimeoutError(f"Label Studio serves no task of a round after {before} in project {project.id}")


def _embed_synthetic(backend: EveryLabel, project: Project) -> Project:
    """Give a pool embeddings nobody computed: ten clusters that overlap."""
    services = backend.services
    services.store.save_project(
        project.id,
        label_config=choices_config("0123456789"),
        encoder=services.embeddings.encoder(project.id).signature,
    )
    services.loop.reconcile(project.id)
    chance = np.random.default_rng(0)
    dim = services.embeddings.encoder(project.id).dim
    centres = chance.standard_normal((10, dim))
    kinds = chance.integers(10, size=len(project.task_ids))
    file = services.embeddings.file(project.id)
    for start in range(0, len(kinds), IMPORTED_AT_ONCE):
        some = kinds[start : start + IMPORTED_AT_ONCE]
        rows = centres[some] + 2.0 * chance.standard_normal((len(some), dim))
        first = file.append(rows.astype(file.dtype))
        ids = project.task_ids[start : start + IMPORTED_AT_ONCE]
        services.store.save_embedded(project.id, {id_: first + i for i, id_ in enumerate(ids)})
    labels = {id_: str(kind) for id_, kind in zip(project.task_ids, kinds, strict=True)}
    return Project(project.id, project.task_ids, labels)


def main() -> None:
    """Measure what is asked for."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--part", choices=("webhook", "submit", "next"), action="append")
    options.add_argument("--seconds", type=float, default=30, help="how long webhooks are sent")
    options.add_argument("--submits", type=int, default=100, help="annotations in each of the two projects")
    options.add_argument("--crops", type=int, action="append", help="pools to wait for a new batch in")
    options.add_argument("--rounds", type=int, default=30, help="annotations that are waited for")
    options.add_argument("--label-studio", type=Path, help="an installed label-studio executable")
    given = options.parse_args()
    parts = given.part or ["webhook", "submit", "next"]
    found: dict[str, Any] = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    with (
        tempfile.TemporaryDirectory() as folder,
        own_label_studio(Path(folder) / "label-studio", given.label_studio) as label_studio,
    ):
        bench = Bench(label_studio, Path(folder))
        if "webhook" in parts:
            found["webhook_ms"] = webhooks(bench, given.seconds)
        if "submit" in parts:
            found["submit_ms"] = submits(bench, given.submits)
        for crops in (given.crops or [2000, 50_000]) if "next" in parts else []:
            found[f"next_batch_ms at {crops} crops"] = next_batch(bench, crops, given.rounds)
    found["load_after"] = os.getloadavg()[0]
    print(json.dumps(found, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
