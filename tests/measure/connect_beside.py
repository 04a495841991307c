"""How long the rounds of two projects take while `everylabel connect` lists, embeds and learns a large third one.

    python -m tests.measure.connect_beside --crops 100000 --pictures 2000

Starts a stand-in for Label Studio, a host of images and a real `everylabel serve` on this machine. Two people label at a
person's pace, each in a project of their own: alone for `--alone` seconds, while `connect` runs (for `--seconds` at most: then
it is killed), and alone again. The large project has 200 labels already, so that rounds of its own run while it is embedded. Of
its crops as many differ as `--pictures` says: what has the same pixels is fetched and decoded, and its row is copied. With
`--inline` pictures are in the tasks' data, so that a large project is soon embedded on a busy machine.

Prints seconds from a webhook to the round that Label Studio serves, as JSON.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from tests.everylabel_process import REPOSITORY, EveryLabel
from tests.measure.large_stand_in import PROJECT as LARGE
from tests.measure.large_stand_in import LargeStandIn, Tasks
from tests.stand_in_label_studio import CLASSES, TOKEN, StandIn, data_uri, label_config, png

BYSTANDERS = (11, 12)
POOL = 400
SIDE = 128


class _Pictures(BaseHTTPRequestHandler):
    """Answers an address with one of the pictures, by the number in it."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    contents: tuple[bytes, ...] = ()

    def do_GET(self) -> None:
        content = self.contents[int(Path(self.path).stem) % len(self.contents)]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


def _jpegs(count: int) -> tuple[bytes, ...]:
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(count):
        stored = io.BytesIO()
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((SIDE, SIDE)).save(stored, "JPEG")
        contents.append(stored.getvalue())
    return tuple(contents)


def serve_pictures(connection: Connection, count: int) -> None:
    """Serve so many JPEG files until the other end is closed."""
    os.nice(10)  # another machine's work, really
    _Pictures.contents = _jpegs(count)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pictures)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connection.send(f"http://127.0.0.1:{server.server_port}")
    connection.recv()


class _Shared(LargeStandIn):
    """The large project, and others of ordinary size beside it."""

    def _project(self, method: str, query: Any, body: Any, id_: int) -> tuple[int, Any]:
        return (LargeStandIn if id_ == LARGE else StandIn)._project(self, method, query, body, id_)

    def _tasks(self, method: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        items = json.loads(query["query"][0])["filters"]["items"]
        lists_all = (
            int(query["project"][0]) == LARGE and len(items) == 1 and items[0]["operator"] == "greater"
        )
        return (LargeStandIn if lists_all else StandIn)._tasks(self, method, query, body)


class _Inline(Tasks):
    """Tasks that hold their picture themselves."""

    def __init__(self, count: int, pictures: int) -> None:
        super().__init__(count, "")
        self._uris = [
            "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() for jpeg in _jpegs(pictures)
        ]

    def plain(self, id_: int) -> dict[str, Any]:
        return {"id": id_, "data": {"image": self._uris[id_ % len(self._uris)]}}


def stand_in(connection: Connection, crops: int, pictures: str | int) -> None:
    """Stand in for Label Studio until the other end is closed; annotate what is asked for.

    Args:
        connection: To the other end.
        crops: How many the large project has.
        pictures: Where they are; or how many there are, if tasks hold them.
    """
    server = _Shared(_Inline(crops, pictures) if isinstance(pictures, int) else Tasks(crops, pictures))
    _ = server.tasks[crops]  # the ids of further tasks come after it
    digits = load_digits(n_class=len(CLASSES))
    truth: dict[int, list[tuple[int, str]]] = {}
    for project, first in zip(BYSTANDERS, range(0, POOL * len(BYSTANDERS), POOL), strict=True):
        server.add_project(project, label_config())
        own = slice(first, first + POOL)
        ids = server.add_tasks(project, *(data_uri(png(pixels)) for pixels in digits.images[own]))
        truth[project] = [
            (id_, CLASSES[int(target)]) for id_, target in zip(ids, digits.target[own], strict=False)
        ]
    connection.send((server.url, truth))
    while (asked := connection.recv()) is not None:
        task, label, project = asked
        body = server.annotate(task, label)
        connection.send({**body, "project": dict(server.projects[project])})


@contextmanager
def _process(target: Any, *given: Any) -> Iterator[tuple[Any, Connection]]:
    """Run a process that says when it is ready; yields what it said, and the connection to it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, *given), daemon=True)
    process.start()
    try:
        yield here.recv(), here
    finally:
        here.send(None)
        process.join(10)
        process.kill()


@dataclass
class _Person:
    """Somebody who labels one crop after the other in a project, and waits for each round."""

    project: int
    tasks: list[tuple[int, str]]
    backend: EveryLabel
    connection: Connection
    lock: threading.Lock
    pause: float
    patience: float
    labelled: int = 0

    def label(self) -> float:
        """Label a crop; returns the seconds until the round that has learned from it is served."""
        task, label = self.tasks[self.labelled % len(self.tasks)]
        self.labelled += 1
        with self.lock:
            self.connection.send((task, label, self.project))
            body = self.connection.recv()
        started = time.monotonic()
        httpx.post(f"{self.backend.settings.public_url}/webhook", json=body, timeout=10).raise_for_status()
        while time.monotonic() - started < self.patience:
            latest = self.backend.services.store.latest_round(self.project)
            if latest is not None and latest.published_at is not None and latest.n_labels >= self.labelled:
                return time.monotonic() - started
            time.sleep(0.05)
        return self.patience


class _Measurement:
    """People who label beside each other until they are told to stop."""

    def __init__(self, people: list[_Person]) -> None:
        self._people = people
        self._taken: list[tuple[str, float]] = []
        self.phase = "alone"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have everybody label while the block runs."""
        stopping = threading.Event()

        def labels(person: _Person) -> None:
            while not stopping.is_set():
                phase = self.phase
                self._taken.append((phase, person.label()))
                stopping.wait(person.pause)

        threads = [threading.Thread(target=labels, args=(person,)) for person in self._people]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stopping.set()
            for thread in threads:
                thread.join()

    def found(self) -> dict[str, dict[str, float]]:
        """Return the distribution of each phase, in the order in which they came."""
        phases = dict.fromkeys(phase for phase, _ in self._taken)
        return {phase: _distribution([s for p, s in self._taken if p == phase]) for phase in phases}


def _distribution(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=20) if len(seconds) > 1 else seconds * 20
    return {
        "rounds": len(seconds),
        "median": round(statistics.median(seconds), 2),
        "95 %": round(min(max(seconds), cuts[18]), 2),
        "worst": round(max(seconds), 2),
    }


def _follow(
    connecting: subprocess.Popen[bytes], backend: EveryLabel, given: argparse.Namespace, people: _Measurement
) -> None:
    """Wait until `connect` ends, and note meanwhile what it is about; kill it when its time is over."""
    until = time.monotonic() + given.seconds
    while connecting.poll() is None:
        if time.monotonic() > until:
            connecting.kill()
        counts = backend.services.store.count_tasks(LARGE)
        if sum(counts.values()) < given.crops:
            people.phase = "while connect lists tasks"
        elif counts["missing"]:
            people.phase = "while connect embeds"
        else:
            people.phase = "while connect learns"
        time.sleep(0.2)


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run everything; returns the figures."""
    with (
        _process(serve_pictures, given.pictures) as (address, _),
        _process(stand_in, given.crops, given.pictures if given.inline else address) as (
            (url, truth),
            connection,
        ),
    ):
        backend = EveryLabel(url, TOKEN, folder, allow_private_addresses=True)
        backend.start()
        found: dict[str, Any] = {"load": os.getloadavg()[0]}
        try:
            for project in BYSTANDERS:
                backend.connect(project)
            rest = (backend, connection, threading.Lock(), given.pause, given.patience)
            people = _Measurement([_Person(project, truth[project], *rest) for project in BYSTANDERS])
            command = [sys.executable, "-m", "everylabel.scripts.cli", "connect", "--project", str(LARGE)]
            with people.running():
                time.sleep(given.alone)
                began = time.monotonic()
                with (folder / "connect.log").open("wb") as log:
                    connecting = subprocess.Popen(
                        command,
                        env=backend.environment,
                        cwd=REPOSITORY,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,  # a terminal of its own
                    )
                _follow(connecting, backend, given, people)
                found["seconds of connect"] = round(time.monotonic() - began)
                people.phase = "alone again"
                time.sleep(given.alone)
            found["connect ended with"] = connecting.returncode
            if connecting.returncode:
                found["connect said"] = (folder / "connect.log").read_text(encoding="utf-8")[-1000:]
            found |= people.found()
            found["embedded"] = backend.services.store.count_tasks(LARGE)
            found["its rounds"] = len(backend.services.store.rounds(LARGE))
        finally:
            backend.stop()
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crops", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=2000, help="how many of them differ")
    parser.add_argument("--inline", action="store_true", help="put the pictures into the tasks' data")
    parser.add_argument("--seconds", type=float, default=3600.0, help="the most that connect may take")
    parser.add_argument("--alone", type=float, default=60.0, help="seconds, before and after")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between a round and the next label")
    parser.add_argument("--patience", type=float, default=60.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps(measure(given, Path(folder)), indent=1) + "\n")


if __name__ == "__main__":
    main()
