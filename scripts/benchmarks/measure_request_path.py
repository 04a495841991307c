"""Measure how fast a backend written with label-studio-ml answers, and how long ranking a pool through it takes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import httpx

from everylabel.backend.progress import Progress
from everylabel.scripts.benchmarks.machine import Watch
from everylabel.scripts.benchmarks.measure_embedding import make_files

PAGES: Final = (1, 250)
"""Tasks of a request: of one that is opened, and of a selection whose predictions are retrieved."""
TASKS: Final = (100, 1000)
"""Tasks asked for in pages of that size."""
REPEATS: Final = 3
PIXELS: Final = 256
START_SECONDS: Final = 120.0
ANSWER_SECONDS: Final = 100.0
"""How long Label Studio waits for predictions."""
LABEL_CONFIG: Final = """<View>
  <Image name="image" value="$image"/>
  <Choices name="class" toName="image"><Choice value="cat"/><Choice value="dog"/></Choices>
</View>"""
HOW_TO_INSTALL: Final = (
    "label-studio-ml 2.x is not installed, and PyPI's is of 2023: "
    "pip install git+https://github.com/HumanSignal/label-studio-ml-backend.git"
)


@dataclass(frozen=True)
class RequestPath:
    """Tasks a second that one backend answers."""

    name: str
    page: int
    """Tasks of a request."""
    tasks: int
    seconds: float

    @property
    def tasks_per_second(self) -> float:
        """The average number of tasks answered in a second."""
        return self.tasks / self.seconds


def installed() -> bool:
    """Return True where a label-studio-ml that speaks the current protocol is installed."""
    try:
        return int(version("label-studio-ml").split(".")[0]) >= 2
    except PackageNotFoundError:
        return False


def measure(
    report: Progress, *, pages: Sequence[int] = PAGES, tasks: Sequence[int] = TASKS, repeats: int = REPEATS
) -> dict[str, Any]:
    """Measure a backend that answers at once, and one that encodes images, at first fetched and then cached.

    Raises:
        RuntimeError: a backend does not start, or refuses; the message holds the end of its output.
    """
    watch = Watch()
    found: list[RequestPath] = []
    total, wanted = 3 * len(pages), list(zip(pages, tasks, strict=True))
    with tempfile.TemporaryDirectory(prefix="everylabel-benchmark-") as scratch:
        folder = Path(scratch)
        (folder / "images").mkdir()
        names = [path.name for path in make_files(folder / "images", 1 + sum(tasks), PIXELS, report)]
        with _images(folder / "images") as host:
            urls = [f"{host}/{name}" for name in names]
            with _backend("answers at once", folder, host) as client:
                for page, some in wanted:
                    report("Asking label-studio-ml", len(found), total)
                    asked = _tasks(urls[:some])
                    found.append(_fastest("answers at once", client, asked, page, repeats))
            with _backend("encodes", folder, host) as client:
                _ask(client, _tasks(urls[-1:]))  # loads the network
                first, own = 0, []
                for page, some in wanted:
                    report("Asking label-studio-ml", len(found), total)
                    own.append(_tasks(urls[first : first + some]))
                    first += some
                    found.append(_fastest("fetches and encodes", client, own[-1], page, 1))
                for (page, _), asked in zip(wanted, own, strict=True):
                    report("Asking label-studio-ml", len(found), total)
                    found.append(_fastest("encodes images fetched before", client, asked, page, repeats))
                report("Asking label-studio-ml", total, total)
    return {
        "unit": "tasks a second; each request after one to /setup, one at a time, as Label Studio sends them",
        "version": version("label-studio-ml"),
        "pixels": PIXELS,
        "paths": [{**asdict(path), "tasks_per_second": path.tasks_per_second} for path in found],
        "machine": asdict(watch.machine()),
    }


def _fastest(
    name: str, client: httpx.Client, tasks: Sequence[dict[str, Any]], page: int, repeats: int
) -> RequestPath:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        for start in range(0, len(tasks), page):
            _ask(client, tasks[start : start + page])
        seconds.append(time.perf_counter() - began)
    return RequestPath(name, page, len(tasks), min(seconds))


def _ask(client: httpx.Client, tasks: Sequence[dict[str, Any]]) -> None:
    """Send what Label Studio 1.23 sends for predictions: /setup, then every task in one /predict."""
    project = "1.1700000000"
    setup = {
        "project": project,
        "schema": LABEL_CONFIG,
        "hostname": "",
        "access_token": "",
        "extra_params": None,
    }
    client.post("/setup", json=setup).raise_for_status()
    params = {"login": None, "password": None, "context": None}
    body = {"tasks": tasks, "project": project, "label_config": LABEL_CONFIG, "params": params}
    answer = client.post("/predict", json=body).raise_for_status().json()
    if len(answer["results"]) != len(tasks):
        raise RuntimeError(f"The backend answered {len(answer['results'])} of {len(tasks)} tasks.")


def _tasks(urls: Sequence[str]) -> list[dict[str, Any]]:
    """Return tasks with the fields that Label Studio sends."""
    made = "2026-01-01T00:00:00.000000Z"
    empty: dict[str, Any] = {
        "annotations": [],
        "predictions": [],
        "meta": {},
        "file_upload": None,
        "overlap": 1,
        "comment_count": 0,
    }
    more = {"is_labeled": False, "total_annotations": 0, "created_at": made, "updated_at": made, "project": 1}
    return [
        {"id": i, "data": {"image": url}, "inner_id": i, **empty, **more} for i, url in enumerate(urls, 1)
    ]


class _Images(SimpleHTTPRequestHandler):
    """A file server that does not log its requests."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def _images(folder: Path) -> Iterator[str]:
    """Serve a folder's files; yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Images, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _backend(name: str, folder: Path, host: str) -> Iterator[httpx.Client]:
    """Run a backend with label-studio-ml's own server, as its Dockerfile does; yields an HTTP client for it."""
    port, log = _free_port(), folder / "backend.log"
    command = [
        *(sys.executable, "-m", "gunicorn", "--preload", "--bind", f"127.0.0.1:{port}", "--workers", "1"),
        *("--threads", "8", "--timeout", "0", "--no-control-socket", "--log-level", "warning"),
        f"everylabel.scripts.benchmarks.plain_ml_backend:application({name!r})",
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BASIC_AUTH")} | {
        "MODEL_DIR": str(folder / name.replace(" ", "-")),
        "XDG_CACHE_HOME": str(folder / "fetched"),
        "XDG_DATA_HOME": str(folder / "data"),
        "LABEL_STUDIO_URL": host,
        "LABEL_STUDIO_API_KEY": "0" * 40,
        "NO_PROXY": "127.0.0.1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=ANSWER_SECONDS, trust_env=False
        ) as client:
            try:
                _wait(process, client)
                yield client
            except (httpx.HTTPError, ConnectionError) as error:
                said = log.read_text(encoding="utf-8", errors="replace")[-1000:]
                raise RuntimeError(f"A backend of label-studio-ml failed: {error}. {said}") from error
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], client: httpx.Client) -> None:
    end = time.monotonic() + START_SECONDS
    while not _answers(client):
        if time.monotonic() > end or process.poll() is not None:
            raise ConnectionError("it did not start")
        time.sleep(0.1)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx.TransportError:
        return False
