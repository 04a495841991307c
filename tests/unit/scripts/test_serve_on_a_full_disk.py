"""`everylabel serve` on a disk that fills up: people are told, nothing is lost, and all goes on once there is space."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.everylabel_process import descendants, free_port, wait_until
from tests.own_mounts import OWN_MOUNTS, skip_if_nobody_may_mount
from tests.stand_in_label_studio import TOKEN

pytestmark = pytest.mark.extended

OWN_DISK = 'mount -t tmpfs -o size=48m tmpfs "$0" && cp -a "$1"/. "$0" && shift && exec "$@"'
"""Puts a disk on a folder, with a copy of another, for the command that follows alone."""
CUT_LOGS = """
import pathlib, sqlite3, sys
for log in pathlib.Path(sys.argv[1]).rglob("*-wal"):
    connection = sqlite3.connect(str(log).removesuffix("-wal"))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
"""
BASE = "/projects/1/label"
BROWSER = {"Accept": "text/html"}
LABELS = 16


class Disk:
    """The small disk of a running `everylabel serve`, as seen from outside."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._inside = ("nsenter", "--target", str(pid), "--user", "--preserve-credentials", "--mount")
        self._own_path, self._folder = folder, Path(f"/proc/{pid}/root{folder}")
        self._taken = self._folder / "taken"

    def fill(self) -> None:
        """Leave no byte for anything that is stored: none on the disk, and none in SQLite's logs either.

        A log that has been folded back is written from its beginning again, which takes no space: such a log is cut to
        nothing first.
        """
        wait_until(self._is_full, "something always wrote to the database", 60)

    def _is_full(self) -> bool:
        self._take_all()
        if not any(log.stat().st_size for log in self._folder.rglob("*-wal")):
            return True
        self.empty()
        # By its own path: of one that leads through a link, SQLite opens what the link says.
        cut = [*self._inside, sys.executable, "-c", CUT_LOGS, str(self._own_path)]
        subprocess.run(cut, check=True, timeout=60)
        return False

    def _take_all(self) -> None:
        for step in (1 << 16, 512):
            with suppress(OSError), self._taken.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(step))
        with self._taken.open("ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            file.write(bytes(4096))

    def empty(self) -> None:
        self._taken.unlink()


def running(pid: int, word: str) -> set[int]:
    """The processes under `everylabel serve` that have this word in their command."""

    def has_it(child: int) -> bool:
        try:
            return word in Path(f"/proc/{child}/cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            return False

    return {child for child in descendants(pid) if has_it(child)}


def web_server(pid: int) -> set[int] | None:
    """The web server and its worker, once there are two: one that is being started may look like its parent for an instant."""
    found = running(pid, "gunicorn")
    return found if len(found) == 2 else None


@pytest.fixture
def taught(stand_in, services, project, teach):
    """A project of 40 digits with 16 labels; returns the folder of the backend that learned from them."""
    stand_in.people["anns-token"] = 7
    teach(LABELS)
    services.store.close()
    return services.settings.model_dir


@pytest.fixture
def served(taught, stand_in, tmp_path):
    """The process, its address, its disk and its log."""
    folder, log, port = tmp_path / "disk", tmp_path / "log", free_port()
    folder.mkdir()
    skip_if_nobody_may_mount(folder)
    serve = [sys.executable, "-m", "everylabel.scripts.cli", "serve", "--port", str(port)]
    environment = {
        **os.environ,
        "MODEL_DIR": str(folder),
        "LABEL_STUDIO_URL": stand_in.url,
        "LABEL_STUDIO_API_KEY": TOKEN,
        "EVERYLABEL_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*OWN_MOUNTS, "sh", "-c", OWN_DISK, str(folder), str(taught), *serve],
            env=environment,
            stdout=output,
            stderr=output,
        )
    address = f"http://127.0.0.1:{port}"

    def up():
        try:
            return httpx.get(f"{address}/health", trust_env=False).json()["status"] == "UP"
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            return False

    try:
        wait_until(up, f"it has not started, see {log}", 120)
        yield process, address, Disk(process.pid, folder), log
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            for pid in (process.pid, *descendants(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            sys.stdout.write(log.read_text())  # shown where the test fails


@pytest.mark.timeout(400)
def test_whoever_labels_is_told_and_all_goes_on_once_there_is_space(served, stand_in, project):
    process, address, disk, log = served
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        shown = client.get("/", headers=BROWSER).text
        token = re.search('<meta name="page-token" content="([0-9a-f]{64})">', shown)[1]
        client.headers["X-Everylabel-Token"] = token
        assert client.post(f"{BASE}/sign-in", json={"token": "anns-token"}).status_code == 200
        page = client.post(f"{BASE}/pages", json={"kind": "class"}).json()["page"]
        labels = {str(crop["task"]): project[crop["task"]] for crop in page["crops"]}
        confirm = f"{BASE}/pages/{page['id']}/confirm"
        other = next(task for task in project if task > LABELS and str(task) not in labels)
        body = stand_in.annotate(other, project[other])

        disk.fill()
        refused = client.post(confirm, json={"labels": labels, "seconds": 60})
        assert refused.status_code == 503
        assert re.search("database|disk", refused.json()["error"])
        disk.fill()
        assert client.post("/webhook", json=body).status_code == 503
        disk.fill()
        assert client.post(f"{BASE}/sign-in", json={"token": "anns-token"}).status_code == 503
        assert client.get("/projects/1", headers=BROWSER).status_code == 200
        assert client.get("/health").status_code == 200
        assert not any(stand_in.tasks[int(task)]["annotations"] for task in labels)
        before = wait_until(lambda: web_server(process.pid), "not the web server and its worker")

        disk.empty()
        stored = client.post(confirm, json={"labels": labels, "seconds": 60})
        assert stored.json()["confirmed"] == len(labels)
        assert client.post("/webhook", json=body).status_code == 201

    def sent():
        held = {task: stand_in.tasks[int(task)]["annotations"] for task in labels}
        return held if all(held.values()) else None

    held = wait_until(sent, "the page's labels have not come to Label Studio", 60)
    given = {task: [a["result"][0]["value"]["choices"][0] for a in of] for task, of in held.items()}
    assert given == {task: [label] for task, label in labels.items()}
    wanted = LABELS + len(labels) + 1

    def learned():
        return f"{wanted} labels" in httpx.get(f"{address}/projects/1", headers=BROWSER, trust_env=False).text

    wait_until(learned, f"no round has learned from {wanted} labels", 60)
    # A trainer that met the full disk while it started ends, and is started again.
    wait_until(lambda: running(process.pid, "trainer"), "the trainer does not come back", 60)
    assert web_server(process.pid) == before, "the web server has ended"
    assert "Traceback" not in log.read_text()
