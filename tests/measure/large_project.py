"""A project of 100,000 tasks in a real Label Studio: connect, broken off and gone on with, and what rounds write.

    python -m tests.measure.large_project --label-studio PATH [--tasks 100000]

It prints one JSON object, and fails where a task is lost or embedded twice. `everylabel connect` runs in a terminal of
its own and is killed (signal 9) while it lists tasks and again while it embeds. Crops are JPEG files of different
pixels on a server of their own. All calls to Label Studio go through a proxy that counts them.
"""

import argparse
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from tests.conftest import LabelStudio, choices_config, own_label_studio
from tests.everylabel_process import REPOSITORY, EveryLabel, wait_until

IMPORTED_AT_ONCE = 5000
COLOURS = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
SHOWN = re.compile(
    r"(Reading annotations|Reading tasks|Embedding crops|Waiting for the backend)\D+?(\d+)/(\d+)"
)
FOR_PROXIES_ALONE = {"connection", "transfer-encoding", "content-encoding", "content-length", "host"}


class CropServer:
    """Serves `/<number>.jpg`: a digit, of other pixels for each number. Counts what is fetched."""

    def __init__(self) -> None:
        self.fetched: Counter[int] = Counter()
        digits = load_digits()
        self.classes = [str(target) for target in digits.target]
        self._pixels = (255 - digits.images * 15).astype(np.uint8)

    def label(self, number: int) -> str:
        """The true class of a crop."""
        return self.classes[number % len(self.classes)]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Send the picture asked for."""
        number = int(handler.path.strip("/").partition(".")[0])
        self.fetched[number] += 1
        noise = np.random.default_rng(number).integers(-40, 40, (64, 64))
        pixels = np.kron(self._pixels[number % len(self._pixels)], np.ones((8, 8))) + noise
        stored = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB").save(stored, "JPEG")
        _send(handler, 200, {"Content-Type": "image/jpeg"}, stored.getvalue())


@dataclass
class CountingProxy:
    """Passes requests on to Label Studio, and remembers what they wrote."""

    target: str
    calls: Counter[str] = field(default_factory=Counter)
    predictions: list[int] = field(default_factory=list)
    """How many each bulk write held."""

    def __post_init__(self) -> None:
        self._client = httpx.Client(base_url=self.target, timeout=300, trust_env=False)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Ask Label Studio what was asked here."""
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {k: v for k, v in handler.headers.items() if k.lower() not in FOR_PROXIES_ALONE}
        found = self._client.request(handler.command, handler.path, content=body, headers=headers)
        path = re.sub(r"\d+", "N", handler.path.partition("?")[0])
        self.calls[f"{handler.command} {path}"] += 1
        if path.endswith("/import/predictions"):
            self.predictions.append(len(json.loads(body)))
        _send(handler, found.status_code, dict(found.headers), found.content)


def _send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        if name.lower() not in FOR_PROXIES_ALONE:
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Answer requests on a free port of loopback; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        do_POST = do_PATCH = do_DELETE = do_PUT = do_GET  # noqa: N815 - the names http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):  # whoever asked has been killed
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Connect:
    """One `everylabel connect` in a terminal."""

    seconds: float
    first: dict[str, tuple[int, int]]
    """The first numbers shown, done and in all, by what was being done."""
    last: dict[str, tuple[int, int]]
    longest_silence: float
    """Seconds for which no number on the screen changed."""
    code: int
    text: str


def connect(
    backend: EveryLabel, project: int, stop: Callable[[str, int, int], bool], limit: float
) -> Connect:
    """Run it until it ends or `stop(what, done, total)` says to kill it."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "everylabel.scripts.cli", "connect", "--project", str(project)]
    environment = {**backend.environment, "TERM": "xterm"}
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    first: dict[str, tuple[int, int]] = {}
    last: dict[str, tuple[int, int]] = {}
    text, changed, silence = "", began, 0.0
    try:
        while time.monotonic() - began < limit:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                read = COLOURS.sub("", os.read(ours, 1 << 16).decode(errors="replace"))
            except OSError:  # the terminal's other side is closed
                break
            text = (text + read)[-4000:]
            for what, done, total in SHOWN.findall(read):
                number, of = int(done), int(total)
                first.setdefault(what, (number, of))
                if last.get(what) != (number, of):
                    now = time.monotonic()
                    silence, changed = max(silence, now - changed), now
                last[what] = (number, of)
                if stop(what, number, of):
                    process.send_signal(signal.SIGKILL)
        else:
            raise TimeoutError(f"connect took more than {limit:.0f} s; last on its screen: {text[-500:]}")
    finally:
        process.kill()
        code = process.wait()
        os.close(ours)
    ended = time.monotonic()
    return Connect(ended - began, first, last, max(silence, ended - changed), code, text)


def import_crops(label_studio: LabelStudio, project: int, numbers: range, crops: str) -> list[int]:
    """Make tasks of crops by their address, in bulk; their ids."""
    ids: list[int] = []
    for start in range(numbers.start, numbers.stop, IMPORTED_AT_ONCE):
        some = range(start, min(start + IMPORTED_AT_ONCE, numbers.stop))
        tasks = [{"data": {"image": f"{crops}/{number}.jpg"}} for number in some]
        path = f"/api/projects/{project}/import"
        answer = label_studio.api("POST", path, params={"return_task_ids": "true"}, json=tasks)
        ids += sorted(answer["task_ids"])
    return ids


def measure(label_studio: LabelStudio, home: Path, tasks: int, annotations: int) -> dict[str, Any]:
    """All of it, one step after the other."""
    found: dict[str, Any] = {"tasks": tasks, "cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    pictures, proxy = CropServer(), CountingProxy(label_studio.url)
    with serving(pictures.answer) as crops, serving(proxy.answer) as address:
        project = label_studio.create_project("large", choices_config("0123456789"))
        began = time.monotonic()
        ids = import_crops(label_studio, project, range(tasks), crops)
        found["import_s"] = time.monotonic() - began
        backend = EveryLabel(address, label_studio.token, home, allow_private_addresses=True)
        backend.start()
        try:
            found |= _connected(backend, proxy, pictures, project, tasks)
            found |= _labelled(backend, label_studio, proxy, pictures, project, ids, annotations)
            found |= _more(backend, label_studio, proxy, project, tasks, crops)
        finally:
            backend.stop()
    found["load_after"] = os.getloadavg()[0]
    return found


def _connected(
    backend: EveryLabel, proxy: CountingProxy, pictures: CropServer, project: int, tasks: int
) -> dict[str, Any]:
    """Connect three times: the power goes while tasks are listed, then while crops are embedded."""
    store = backend.services.store

    def some_embedded(*_: object) -> bool:
        return store.count_tasks(project)["embedded"] > 0.3 * tasks

    runs = [
        connect(backend, project, lambda what, done, of: what == "Reading tasks" and done > 0.4 * of, 600)
    ]
    backend.kill()
    listed = store.number_of_tasks(project)
    backend.start()
    runs.append(connect(backend, project, some_embedded, 1800))
    backend.kill()
    embedded = store.count_tasks(project)["embedded"]
    backend.start()
    runs.append(connect(backend, project, lambda *_: False, 3600))
    assert [run.code for run in runs] == [-signal.SIGKILL, -signal.SIGKILL, 0], [r.text[-500:] for r in runs]
    counts = store.count_tasks(project)
    assert counts == {"embedded": tasks, "missing": 0, "unreadable": 0}, counts
    rows = [task.embedding_row for task in store.tasks(project)]
    assert len(set(rows)) == tasks, "two tasks share a row"
    return {
        "connect": [
            {
                "seconds": run.seconds,
                "first_shown": run.first,
                "last_shown": run.last,
                "longest_silence_s": run.longest_silence,
            }
            for run in runs
        ],
        "listed_before_the_first_kill": listed,
        "embedded_before_the_second_kill": embedded,
        "crops_fetched": pictures.fetched.total(),
        "connect_calls": dict(proxy.calls),
        "first_round_writes": list(proxy.predictions),
    }


def _labelled(
    backend: EveryLabel,
    label_studio: LabelStudio,
    proxy: CountingProxy,
    pictures: CropServer,
    project: int,
    ids: list[int],
    annotations: int,
) -> dict[str, Any]:
    """Label what the queue gives, and see what each round writes."""
    number_of = {id_: number for number, id_ in enumerate(ids)}
    settings = backend.settings
    proxy.calls.clear()
    proxy.predictions.clear()
    before, waited, bound = backend.number(project), [], []
    for _ in range(annotations):
        task = label_studio.next_task(project)
        assert task is not None, "the queue is empty"
        latest = backend.number(project)
        label_studio.annotate(task, pictures.label(number_of[task]))
        began = time.monotonic()
        record = backend.wait_for_round(project, after=latest)
        waited.append(time.monotonic() - began)
        bound.append(
            len(record.check) + len(record.batch) + len(record.pre_annotated) + len(record.suspected)
        )
    rounds = backend.number(project) - before
    assert len(proxy.predictions) == rounds, "a round is one bulk write"
    return {
        "annotations": annotations,
        "rounds": rounds,
        "predictions_a_write": {"least": min(proxy.predictions), "most": max(proxy.predictions)},
        "shown_a_round": {"least": min(bound), "most": max(bound)},
        "batch_size": settings.batch_size,
        "calls_meanwhile": dict(proxy.calls),
        "annotation_to_round_s": {
            "median": float(np.median(waited)),
            "p95": float(np.percentile(waited, 95)),
        },
    }


def _more(
    backend: EveryLabel, label_studio: LabelStudio, proxy: CountingProxy, project: int, tasks: int, crops: str
) -> dict[str, Any]:
    """A thousand tasks more, told of by webhook; and a last `connect`, with nothing new."""
    proxy.calls.clear()
    began = time.monotonic()
    import_crops(label_studio, project, range(tasks, tasks + 1000), crops)
    store = backend.services.store
    wait_until(lambda: store.count_tasks(project)["embedded"] == tasks + 1000, "new crops embedded", 300)
    added = {"seconds": time.monotonic() - began, "calls": dict(proxy.calls)}
    again = connect(backend, project, lambda *_: False, 900)
    assert again.code == 0, again.text
    status = timed(backend, "status", "--project", str(project))
    return {
        "thousand_more": added,
        "connect_again": {"seconds": again.seconds, "longest_silence_s": again.longest_silence},
        "status_s": status,
    }


def timed(backend: EveryLabel, *arguments: str) -> float:
    """Seconds a command takes."""
    began = time.monotonic()
    done = backend.command(*arguments)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began


@contextmanager
def label_studio_and_home(executable: Path | None) -> Iterator[tuple[LabelStudio, Path]]:
    """A Label Studio of its own, and an empty folder for a backend beside it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        own_label_studio(Path(folder) / "label-studio", executable) as label_studio,
    ):
        home = Path(folder) / "everylabel"
        home.mkdir()
        yield label_studio, home


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--label-studio", type=Path, help="an installed label-studio executable")
    options.add_argument("--tasks", type=int, default=100_000)
    options.add_argument("--annotations", type=int, default=20)
    given = options.parse_args()
    with label_studio_and_home(given.label_studio) as (label_studio, home):
        found = measure(label_studio, home, given.tasks, given.annotations)
    print(json.dumps(found, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
