"""Webhooks at full speed for as long as asked: what the backend holds may not grow with them.

The test suite runs a short form (`tests/unit/backend/test_soak.py`). The long one, which stands in for a day, is a command:

    python -m tests.measure.soak --events 20000

Eight senders create, change and delete annotations of a stand-in for Label Studio and tell the backend. It prints
the memory of each process, the files and bytes in MODEL_DIR, the rows of each table and the predictions in Label
Studio, after a tenth of the events and at the end.
"""

import argparse
import json
import random
import sqlite3
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from sklearn.datasets import load_digits

from everylabel.backend.store import pool_map
from everylabel.scripts.commands.connect import connect_project
from tests.everylabel_process import EveryLabel, descendants, wait_until
from tests.stand_in_label_studio import CLASSES, TOKEN, StandIn, data_uri, png

SENDERS = 8
CROPS = 200


@dataclass(frozen=True)
class Held:
    """What the backend holds at a moment."""

    events: int
    megabytes: dict[str, float]
    """Resident memory of each process."""
    files: int
    disk_megabytes: float
    rows: dict[str, int]
    rounds: int
    predictions: int
    """In Label Studio."""


@dataclass
class Annotator:
    """What people do: one annotation a task at most, changed and deleted at random."""

    stand_in: StandIn
    tasks: Sequence[int]
    chance: random.Random
    lock: threading.Lock
    tick: int = 0

    def act(self) -> dict[str, Any]:
        """Do something; returns the webhook that tells of it."""
        with self.lock:
            self.tick += 1
            task = self.chance.choice(self.tasks)
            held = self.stand_in.tasks[task]["annotations"]
            label = self.chance.choice(CLASSES)
            if not held:
                return self.stand_in.annotate(task, label, updated_at=self._now())
            if self.chance.random() < 0.3:
                gone = held.pop()
                return self.stand_in.webhook("ANNOTATIONS_DELETED", annotations=[{"id": gone["id"]}])
            held[0]["updated_at"] = self._now()
            held[0]["result"][0]["value"] = {"choices": [label]}
            plain = self.stand_in.plain(task)
            body = self.stand_in.webhook("ANNOTATION_UPDATED", annotation=held[0], task=plain)
            return dict(json.loads(json.dumps(body)))

    def _now(self) -> str:
        return f"2026-01-01T{self.tick // 3600:02d}:{self.tick // 60 % 60:02d}:{self.tick % 60:02d}.000000Z"


def soak(home: Path, events: int, seed: int = 0) -> tuple[Held, Held]:
    """Send `events` webhooks; returns what was held after a tenth of them and at the end, both at rest.

    Raises AssertionError where a label was lost.
    """
    digits = load_digits(n_class=len(CLASSES))
    stand_in = StandIn()
    stand_in.add_project(1)
    tasks = stand_in.add_tasks(1, *(data_uri(png(pixels)) for pixels in digits.images[:CROPS]))
    backend = EveryLabel(stand_in.url, TOKEN, home)
    try:
        backend.start()
        connect_project(backend.services, 1)
        annotator = Annotator(stand_in, tasks, random.Random(seed), threading.Lock())
        _send(backend, annotator, events // 10)
        first = _at_rest(backend, stand_in, events // 10)
        _send(backend, annotator, events - events // 10)
        return first, _at_rest(backend, stand_in, events)
    finally:
        backend.stop()
        stand_in.close()


def _send(backend: EveryLabel, annotator: Annotator, count: int) -> None:
    def send(number: int) -> None:
        with httpx.Client(base_url=backend.settings.public_url, trust_env=False, timeout=30) as client:
            for _ in range(number):
                client.post("/webhook", json=annotator.act()).raise_for_status()

    portions = [count // SENDERS + (i < count % SENDERS) for i in range(SENDERS)]
    with ThreadPoolExecutor(SENDERS) as senders:
        list(senders.map(send, portions))


def _has_map(folder: Path) -> bool:
    drawn = pool_map.load(folder)
    return drawn is not None and drawn.laid_out > 0


def _at_rest(backend: EveryLabel, stand_in: StandIn, events: int) -> Held:
    """Wait until every webhook is processed and the labels are Label Studio's; say what is held then."""
    truth = {
        task["id"]: task["annotations"][0]["result"][0]["value"]["choices"][0]
        for task in stand_in.tasks.values()
        if task["annotations"]
    }
    store = backend.services.store
    wait_until(lambda: not store.events(1), "every webhook is processed", 600)
    wait_until(lambda: backend.labels(1) == truth, "no label is lost", 10)
    wait_until(lambda: backend.round(1).n_labels == len(truth), "the newest round knows them all", 60)
    drawn = backend.services.files(1).folder
    wait_until(lambda: _has_map(drawn), "the map is drawn", 120)
    time.sleep(0.5)
    folder = backend.settings.model_dir
    files = [path for path in folder.rglob("*") if path.is_file()]
    rows: dict[str, int] = {}
    for database in sorted(folder.glob("*.db")):
        with sqlite3.connect(database) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in names:
                count = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
                rows[f"{database.stem}.{name}"] = count
    return Held(
        events=events,
        megabytes=_memory(backend),
        files=len(files),
        disk_megabytes=round(sum(path.stat().st_size for path in files) / 1e6, 2),
        rows=rows,
        rounds=backend.number(1),
        predictions=len(stand_in.predictions),
    )


def _memory(backend: EveryLabel) -> dict[str, float]:
    """Resident memory by process, in megabytes."""
    found: dict[str, float] = {}
    for pid in sorted(descendants(backend.pid)):
        command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        kind = next((word for word in ("trainer", "gunicorn") if word in command), None)
        if kind is None:
            continue
        status = Path(f"/proc/{pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        # gunicorn is two: its master, and the one worker.
        found[kind] = round(max(found.get(kind, 0.0), int(line.split()[1]) / 1000), 1)
    return found


def main() -> None:
    """The long form."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--events", type=int, default=20_000)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        first, last = soak(Path(folder), given.events, given.seed)
    seconds = round(time.monotonic() - started)
    print(json.dumps({"seconds": seconds, "held": [asdict(first), asdict(last)]}, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
