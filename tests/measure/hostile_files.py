"""How long rounds of a project take, and what memory the trainer takes, while another project's files are hostile.

    python -m tests.measure.hostile_files rubbish png jpeg gif --megabytes 30

Two hundred tasks point at a file that is no image, or one of millions of tiny pieces; eight are read at a time. Prints
seconds from a webhook to the round that Label Studio serves, as JSON, alone and meanwhile, and the trainer's peak of memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
from sklearn.datasets import load_digits

from tests.everylabel_process import EveryLabel
from tests.hostile_images import gif_of_comments, jpeg_of_comments, png_of_chunks
from tests.measure.fairness import POOL, _host, _Rounds
from tests.measure.measured_command import cost
from tests.stand_in_label_studio import CLASSES, TOKEN, StandIn, data_uri, png

BYSTANDER, HOSTILE = 1, 2
TASKS = 200
MADE = {
    "rubbish": bytes,
    "png": lambda n: png_of_chunks(n // 15),
    "jpeg": lambda n: jpeg_of_comments(n // 4),
    "gif": lambda n: gif_of_comments(n // 2),
}
"""By kind: a file of about so many bytes."""


def serve(connection: Connection, files: list[bytes]) -> None:
    """Serve files until the other end is closed."""
    os.nice(10)  # another machine's work, really
    with _host(files) as address:
        connection.send(address)
        connection.recv()


@contextmanager
def served(*files: bytes) -> Iterator[str]:
    """Serve files from a process of their own, `/<number>.png` each; yields the address."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, [*files]), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


def measure(kind: str, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure with one kind of file; returns the figures."""
    digits = load_digits(n_class=len(CLASSES))
    stand_in, truth = StandIn(), dict[int, str]()
    for project in (BYSTANDER, HOSTILE):
        stand_in.add_project(project)
        own = range((project - 1) * POOL, project * POOL)
        ids = stand_in.add_tasks(project, *(data_uri(png(digits.images[i])) for i in own))
        truth |= {id_: CLASSES[int(digits.target[i])] for id_, i in zip(ids, own, strict=True)}
    backend = EveryLabel(stand_in.url, TOKEN, folder, allow_private_addresses=True)
    backend.start()
    try:
        with served(MADE[kind](given.megabytes * 1_000_000)) as address:
            for project in (BYSTANDER, HOSTILE):
                backend.connect(project)
            rounds = _Rounds(stand_in, backend, truth, 60.0)
            found: dict[str, Any] = {"load": os.getloadavg()[0], "alone": rounds.measure(BYSTANDER, 8)}
            new = stand_in.add_tasks(HOSTILE, *(f"{address}/{i}.png" for i in range(TASKS)))
            body = stand_in.webhook("TASKS_CREATED", HOSTILE, tasks=[stand_in.plain(id_) for id_ in new])
            httpx.post(f"{backend.settings.public_url}/webhook", json=body, timeout=10).raise_for_status()
            time.sleep(5)
            found["beside hostile files"] = rounds.measure(BYSTANDER, 8)
            found["read by then"] = backend.services.store.count_tasks(HOSTILE)["unreadable"]
            found["peak of the trainer, MB"] = round(cost(backend.trainer_pid)["peak"])
            return found
    finally:
        backend.stop()
        stand_in.close()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="+", choices=MADE)
    parser.add_argument("--megabytes", type=int, default=30)
    given = parser.parse_args()
    for kind in given.kinds:
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(json.dumps({kind: measure(kind, given, Path(folder))}, indent=1) + "\n")


if __name__ == "__main__":
    main()
