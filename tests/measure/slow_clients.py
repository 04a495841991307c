"""What a webhook takes while hundreds of clients keep the backend waiting, and without them.

Starts the web side of a backend on this machine (no Label Studio, no trainer) and sends it webhooks, one after the
other, each on a connection of its own, as Label Studio does: first alone, then while another process keeps as many
connections open as asked for. Of these, some send half a header, some a body byte by byte, and some nothing; one
that is dropped comes again at once.

    python -m tests.measure.slow_clients --half-open 500 --slow-bodies 500 --silent 200

prints milliseconds as JSON. `--worker-class gthread` measures gunicorn's own threads instead.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.everylabel_process import REPOSITORY, free_port, wait_until

WORKER = "everylabel.backend.web_server.worker.BufferingWorker"
HEAD = b"POST /webhook HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
PATIENCE_SECONDS = 1.0
"""Label Studio's for a webhook."""


@contextmanager
def _backend(folder: Path, worker: str, workers: int) -> Iterator[int]:
    """Run the web side of a backend; yields its port."""
    port = free_port()
    command = [
        *(
            sys.executable,
            "-m",
            "gunicorn",
            "everylabel.backend.wsgi:application()",
            "--bind",
            f"127.0.0.1:{port}",
        ),
        *("--worker-class", worker, "--workers", str(workers), "--threads", "8", "--timeout", "120"),
        *("--keep-alive", "75", "--log-level", "warning", "--no-control-socket"),
    ]
    environment = {**os.environ, "MODEL_DIR": str(folder / "backend"), "LOG_LEVEL": "WARNING"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(port), f"a backend, see {folder}/log", 60)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=1).is_success
    except httpx.TransportError:
        return False


@contextmanager
def _attackers(port: int, given: argparse.Namespace) -> Iterator[None]:
    numbers = [str(number) for number in (port, given.half_open, given.slow_bodies, given.silent)]
    command = [sys.executable, str(Path(__file__).with_name("slow_client.py")), *numbers]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # they are all connected
        yield
    finally:
        process.kill()
        process.wait()


def _webhooks(port: int, seconds: float) -> dict[str, float]:
    """Send webhooks for that long; returns how long they took, in milliseconds, and how many got no answer in time."""
    body = json.dumps({"action": "START_TRAINING", "project": {"id": 1}}).encode()
    request = HEAD + f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    taken: list[float] = []
    missed, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        started = time.perf_counter()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
                client.sendall(request)
                answered = client.recv(4096).startswith(b"HTTP/1.1 201")
        except OSError:
            answered = False
        if answered:
            taken.append(1000 * (time.perf_counter() - started))
        missed += not answered
        time.sleep(0.02)
    if len(taken) < 2:
        return {"answered": len(taken), "missed": missed}
    cuts = statistics.quantiles(taken, n=100)
    return {
        "answered": len(taken),
        "missed": missed,
        "p50": round(cuts[49], 2),
        "p99": round(cuts[98], 2),
        "most": round(max(taken), 2),
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure with and without slow clients, in one run."""
    found: dict[str, Any] = {"worker": given.worker_class, "load": os.getloadavg()[0]}
    with (
        tempfile.TemporaryDirectory() as folder,
        _backend(Path(folder), given.worker_class, given.workers) as port,
    ):
        _webhooks(port, 1)
        found["alone"] = _webhooks(port, given.seconds)
        with _attackers(port, given):
            found["beside slow clients"] = _webhooks(port, given.seconds)
        found["alone again"] = _webhooks(port, given.seconds)
    return found


def main() -> None:
    """Measure what is asked for."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--half-open", type=int, default=500)
    options.add_argument("--slow-bodies", type=int, default=500)
    options.add_argument("--silent", type=int, default=200)
    options.add_argument("--seconds", type=float, default=20, help="how long webhooks are sent, three times")
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--worker-class", default=WORKER, help="gunicorn's name of a worker")
    given = options.parse_args()
    print(json.dumps(measure(given), indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
