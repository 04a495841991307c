"""What a backend of 4 GB does about files that cost far more than they look, and what labelling beside them takes.

    python -m tests.measure.bombs [--gigabytes 4] [--tasks 200] [--clients 8]

Needs root, for the limit is a control group's, as a container's is. The tasks of one project point at the files of
`tests.hostile_images`; eight clients ask for their thumbnails and post them to `/classify` while the trainer reads
eight at a time; somebody labels in another project. Prints one JSON object, and fails where a process is killed for its memory, a
round stays away, a label is lost, a file that is no picture has no problem, or `doctor` says that all is well.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from sklearn.datasets import load_digits

from tests.everylabel_process import EveryLabel, wait_until
from tests.hostile_images import FILES, READABLE
from tests.measure.fairness import POOL, _Rounds
from tests.measure.hostile_files import served
from tests.stand_in_label_studio import CLASSES, TOKEN, StandIn, data_uri, png

BYSTANDER, HOSTILE = 1, 2
GROUPS = Path("/sys/fs/cgroup")
PATIENCE_SECONDS = 120.0


class MemoryLimit:
    """A control group with a limit of memory; processes started within `inside` stay in it."""

    def __init__(self, limit: int) -> None:
        self._unified = (GROUPS / "cgroup.controllers").exists()
        self._parent = GROUPS if self._unified else GROUPS / "memory"
        self.folder = self._parent / f"everylabel-{os.getpid()}"
        self.folder.mkdir()
        try:
            self._set("memory.max" if self._unified else "memory.limit_in_bytes", limit)
        except BaseException:
            self.folder.rmdir()
            raise

    def _set(self, name: str, value: int) -> None:
        (self.folder / name).write_text(str(value))

    @contextmanager
    def inside(self) -> Iterator[None]:
        own = self._own()
        self._set("cgroup.procs", os.getpid())
        try:
            yield
        finally:
            (own / "cgroup.procs").write_text(str(os.getpid()))

    def _own(self) -> Path:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == ("" if self._unified else "memory"):
                return self._parent / path.lstrip("/")
        raise AssertionError("no control group of memory")

    def figures(self) -> dict[str, int]:
        """The most memory there was in megabytes, the system's cache of files included, and processes killed for it."""
        peak = "memory.peak" if self._unified else "memory.max_usage_in_bytes"
        events = "memory.events" if self._unified else "memory.oom_control"
        said = dict(line.split() for line in (self.folder / events).read_text().splitlines())
        return {
            "peak_mb": int((self.folder / peak).read_text()) // 1_000_000,
            "killed": int(said["oom_kill"]),
        }

    def close(self) -> None:
        wait_until(lambda: not (self.folder / "cgroup.procs").read_text(), "processes are left", 60)
        self.folder.rmdir()


class HeldMemory:
    """The most memory that the processes of a control group held of their own, looked at ten times a second."""

    def __init__(self, group: Path) -> None:
        self._stat, self._stop, self.peak = group / "memory.stat", threading.Event(), 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            said = dict(line.split() for line in self._stat.read_text().splitlines())
            self.peak = max(self.peak, int(said.get("total_rss", said.get("anon", 0))))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class Clients:
    """So many clients, each of whom asks once for the thumbnails of its share of a project's crops, and posts files."""

    def __init__(self, address: str, tasks: list[int], files: list[bytes], clients: int) -> None:
        self.answers: Counter[str] = Counter()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(address, tasks[i::clients], files), daemon=True)
            for i in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, address: str, tasks: list[int], files: list[bytes]) -> None:
        with httpx.Client(base_url=address, timeout=PATIENCE_SECONDS, trust_env=False) as client:
            for at, task in enumerate(tasks):
                if self._stop.is_set():
                    return
                self._once(client, "thumbnail", "GET", f"/projects/{HOSTILE}/crops/{task}")
                content = {"file": ("crop", files[at % len(files)])}
                self._once(client, "classify", "POST", f"/projects/{HOSTILE}/classify", files=content)

    def _once(self, client: httpx.Client, what: str, method: str, path: str, **more: Any) -> None:
        try:
            said = str(client.request(method, path, **more).status_code)
        except httpx.HTTPError as error:
            said = type(error).__name__
        with self._lock:
            self.answers[f"{what} {said}"] += 1

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)


def measure(given: argparse.Namespace, folder: Path, limit: MemoryLimit) -> dict[str, Any]:
    """Measure; returns the figures."""
    digits, names = load_digits(n_class=len(CLASSES)), list(FILES)
    files = [FILES[name]() for name in names]
    stand_in, truth = StandIn(), dict[int, str]()
    for project in (BYSTANDER, HOSTILE):
        stand_in.add_project(project)
        own = range((project - 1) * POOL, project * POOL)
        ids = stand_in.add_tasks(project, *(data_uri(png(digits.images[i])) for i in own))
        truth |= {id_: CLASSES[int(digits.target[i])] for id_, i in zip(ids, own, strict=True)}
    backend = EveryLabel(stand_in.url, TOKEN, folder, allow_private_addresses=True)
    with limit.inside():
        backend.start()
    held = HeldMemory(limit.folder)
    try:
        with served(*files) as address:
            for project in (BYSTANDER, HOSTILE):
                backend.connect(project)
            rounds = _Rounds(stand_in, backend, truth, PATIENCE_SECONDS)
            found: dict[str, Any] = {"load": os.getloadavg()[0], "alone": rounds.measure(BYSTANDER, 6)}
            rounds.measure(HOSTILE, 6)
            new = stand_in.add_tasks(HOSTILE, *(f"{address}/{i}.png" for i in range(given.tasks)))
            name_of = {id_: names[i % len(names)] for i, id_ in enumerate(new)}
            body = stand_in.webhook("TASKS_CREATED", HOSTILE, tasks=[stand_in.plain(id_) for id_ in new])
            began = time.monotonic()
            httpx.post(f"{backend.settings.public_url}/webhook", json=body, timeout=10).raise_for_status()
            store = backend.services.store
            wait_until(lambda: len(store.tasks(HOSTILE)) == POOL + given.tasks, "tasks listed", 60)
            clients = Clients(backend.settings.public_url, new, files, given.clients)
            try:
                found["beside bombs"] = rounds.measure(BYSTANDER, 12)
                found["in their own project"] = rounds.measure(HOSTILE, 6)
                wait_until(lambda: _tried(backend, new), "some files were never tried", 1800)
                found["all tried after, s"] = round(time.monotonic() - began)
            finally:
                clients.stop()
            found["answers"] = dict(sorted(clients.answers.items()))
            found |= {"rss_peak_mb": held.peak // 1_000_000, **limit.figures()}
            _check(backend, stand_in, name_of, found)
            return found
    finally:
        held.close()
        backend.stop()
        stand_in.close()


def _tried(backend: EveryLabel, new: list[int]) -> bool:
    tasks = backend.services.store.tasks(HOSTILE)
    return {*new} <= {task.id for task in tasks if task.problem or task.embedding_row is not None}


def _check(backend: EveryLabel, stand_in: StandIn, name_of: dict[int, str], found: dict[str, Any]) -> None:
    assert found["killed"] == 0, found
    assert found["beside bombs"]["late"] == found["in their own project"]["late"] == 0, found
    for project in (BYSTANDER, HOSTILE):
        given = {id_ for id_ in stand_in.annotated() if stand_in.tasks[id_]["project"] == project}
        assert backend.labels(project).keys() == given
    tasks = backend.services.store.tasks(HOSTILE)
    silent = {name_of[t.id] for t in tasks if t.id in name_of and not t.problem}
    assert silent <= READABLE, silent - READABLE
    said = backend.command("doctor", "--project", str(HOSTILE))
    assert "All is well" not in said.stdout, said.stdout
    assert "Traceback" not in backend.log_path.read_text()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    given = parser.parse_args()
    limit = MemoryLimit(int(given.gigabytes * 2**30))
    try:
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(json.dumps(measure(given, Path(folder), limit), indent=1) + "\n")
    finally:
        limit.close()


if __name__ == "__main__":
    main()
