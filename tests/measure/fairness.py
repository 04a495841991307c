"""How long the rounds of one project take while others embed: behind hosts that are slow, and while a pool is connected.

Starts a stand-in for Label Studio, a host of images and a real `everylabel serve` on this machine.

    python -m tests.measure.fairness --crops 3000

prints seconds from a webhook to the round that Label Studio serves, as JSON: alone; while the host of two other projects
takes ten seconds an image, in the third and in one of those two; and while `everylabel connect` embeds a pool of
so many crops. A round that has not come after `--patience` seconds counts as that long, and as late.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from tests.everylabel_process import REPOSITORY, EveryLabel, wait_until
from tests.stand_in_label_studio import CLASSES, TOKEN, StandIn, data_uri, png

SLOW_SECONDS = 10.0
POOL = 40
SLOW_CROPS = 200
BYSTANDER, SLOW, OTHER_SLOW, LARGE = 1, 2, 3, 4


@contextmanager
def _host(pictures: list[bytes]) -> Iterator[str]:
    """A host of images; those under `/slow` take ten seconds each."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/slow"):
                time.sleep(SLOW_SECONDS)
            content = pictures[int(Path(self.path).stem) % len(pictures)]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Rounds:
    """Labels a crop and waits for the round that has learned from it."""

    def __init__(
        self, stand_in: StandIn, backend: EveryLabel, truth: dict[int, str], patience: float
    ) -> None:
        self._stand_in, self._backend, self._truth, self._patience = stand_in, backend, truth, patience
        self._given: dict[int, int] = {}

    def measure(self, project: int, times: int) -> dict[str, Any]:
        """Take `times` rounds of a project; returns median and worst seconds, and how many were late."""
        took = [self._one(project) for _ in range(times)]
        return {
            "median": round(statistics.median(took), 2),
            "worst": round(max(took), 2),
            "late": sum(seconds >= self._patience for seconds in took),
            "rounds": times,
        }

    def _one(self, project: int) -> float:
        task = next(
            id_
            for id_ in self._truth
            if self._stand_in.tasks[id_]["project"] == project
            and not self._stand_in.tasks[id_]["annotations"]
        )
        self._given[project] = wanted = self._given.get(project, 0) + 1
        body = self._stand_in.annotate(task, self._truth[task])
        body["project"] = dict(self._stand_in.projects[project])
        started = time.monotonic()
        httpx.post(f"{self._backend.settings.public_url}/webhook", json=body, timeout=10).raise_for_status()
        while time.monotonic() - started < self._patience:
            latest = self._backend.services.store.latest_round(project)
            if latest is not None and latest.published_at is not None and latest.n_labels >= wanted:
                return time.monotonic() - started
            time.sleep(0.02)
        return self._patience


def _pictures(count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        path = Path(tempfile.mkstemp(suffix=".jpg")[1])
        Image.fromarray(pixels).resize((256, 256)).save(path)
        found.append(path.read_bytes())
        path.unlink()
    return found


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run everything; returns the figures."""
    digits = load_digits(n_class=len(CLASSES))
    labelled = [
        (data_uri(png(pixels)), CLASSES[int(target)])
        for pixels, target in zip(digits.images[: 3 * POOL], digits.target[: 3 * POOL], strict=True)
    ]
    stand_in, truth = StandIn(), dict[int, str]()
    for project in (BYSTANDER, SLOW, OTHER_SLOW):
        stand_in.add_project(project)
        own = labelled[(project - 1) * POOL : project * POOL]
        ids = stand_in.add_tasks(project, *(image for image, _ in own))
        truth |= dict(zip(ids, (label for _, label in own), strict=True))
    backend = EveryLabel(stand_in.url, TOKEN, folder, allow_private_addresses=True)
    backend.start()
    found: dict[str, Any] = {"load": os.getloadavg()[0]}
    with _host(_pictures(given.crops)) as host:
        try:
            for project in (BYSTANDER, SLOW, OTHER_SLOW):
                backend.connect(project)
            rounds = _Rounds(stand_in, backend, truth, given.patience)
            found["alone"] = rounds.measure(BYSTANDER, given.rounds)

            stand_in.add_project(LARGE)
            stand_in.add_tasks(LARGE, *(f"{host}/{i}.jpg" for i in range(given.crops)))
            command = [sys.executable, "-m", "everylabel.scripts.cli", "connect", "--project", str(LARGE)]
            with (folder / "connect.log").open("wb") as log:
                connecting = subprocess.Popen(
                    command, env=backend.environment, cwd=REPOSITORY, stdout=log, stderr=log
                )
            wait_until(
                lambda: backend.services.store.count_tasks(LARGE)["embedded"],
                "connect embeds",
                120,
            )
            found["while a pool is connected"] = rounds.measure(BYSTANDER, given.rounds)
            found["it was still being connected"] = connecting.poll() is None
            connecting.wait(600)

            for project in (SLOW, OTHER_SLOW):
                new = stand_in.add_tasks(project, *(f"{host}/slow/{i}.jpg" for i in range(SLOW_CROPS)))
                body = stand_in.webhook("TASKS_CREATED", project, tasks=[stand_in.plain(id_) for id_ in new])
                httpx.post(f"{backend.settings.public_url}/webhook", json=body, timeout=10).raise_for_status()
                backend.services.jobs.embed(project, new[:1])  # as /predict asks
            time.sleep(2)
            found["beside two slow hosts"] = rounds.measure(BYSTANDER, given.rounds)
            found["behind a slow host"] = rounds.measure(SLOW, given.rounds)
            found["slow crops embedded by then"] = backend.services.store.count_tasks(SLOW)["embedded"] - POOL
        finally:
            backend.stop()
            stand_in.close()
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--patience", type=float, default=30.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps(measure(given, Path(folder)), indent=1) + "\n")


if __name__ == "__main__":
    main()
