"""A real `everylabel serve` for the tests: its processes, its memory, and bounded waiting for its rounds."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import httpx

from everylabel.backend.bootstrap import Backend, build
from everylabel.backend.settings import Settings
from everylabel.backend.store import RoundRecord
from everylabel.scripts.commands.connect import connect_project
from everylabel.scripts.commands.serve import Child

REPOSITORY = Path(__file__).resolve().parent.parent

Found = TypeVar("Found")


def wait_until(look: Callable[[], Found], what: str, seconds: float = 120.0) -> Found:
    """Look again and again until something true is seen, and return it; fail after ``seconds``.

    The longer it takes, the rarer: what is waited for needs the processor, too.
    """
    began = time.monotonic()
    deadline = began + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(min(0.3, 0.05 + 0.05 * (time.monotonic() - began)))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def descendants(pid: int) -> set[int]:
    """Every process that a process has started, and those have, as long as they live."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return set()
    found = {int(child) for child in children}
    return found.union(*(descendants(child) for child in found))


def is_running(pid: int) -> bool:
    """Whether a process is there and is not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class EveryLabel:
    """One everylabel backend: the process that serves it, and a look into what it remembers."""

    def __init__(self, label_studio_url: str, token: str, home: Path, **settings: Any) -> None:
        self.port = free_port()
        self.log_path = home / "everylabel.log"
        self.settings = Settings(
            label_studio_url=label_studio_url,
            label_studio_api_key=token,
            public_url=f"http://127.0.0.1:{self.port}",
            **{"model_dir": home / "backend", **settings},
        )
        self._child: Child | None = None

    @cached_property
    def services(self) -> Backend:
        """The backend's store and client, seen from this process."""
        return build(self.settings)

    def services_later(self, seconds: float) -> Backend:
        """Return the same as `services`, so much later by its clock."""
        return build(self.settings, lambda: time.time() + seconds)

    @property
    def environment(self) -> dict[str, str]:
        """What a person would have exported."""
        settings = self.settings
        return {
            **os.environ,
            "COLUMNS": "200",
            "LABEL_STUDIO_URL": settings.label_studio_url,
            "LABEL_STUDIO_API_KEY": settings.label_studio_api_key.get_secret_value(),
            "MODEL_DIR": str(settings.model_dir),
            "BASIC_AUTH_USER": settings.basic_auth_user,
            "BASIC_AUTH_PASS": settings.basic_auth_pass.get_secret_value(),
            "EVERYLABEL_BEARER_SECRET": settings.bearer_secret.get_secret_value(),
            "EVERYLABEL_DELIVERY_SECRET": settings.delivery_secret.get_secret_value(),
            "EVERYLABEL_PUBLIC_URL": settings.public_url,
            "EVERYLABEL_ALLOW_PRIVATE_ADDRESSES": str(settings.allow_private_addresses),
            "EVERYLABEL_ENCODER": settings.encoder,
            "EVERYLABEL_DATABASE_URL": settings.database_url.get_secret_value(),
            "EVERYLABEL_REDIS_URL": settings.redis_url.get_secret_value(),
        }

    def start(self, *options: str) -> None:
        """Start `everylabel serve` and return once its trainer is alive too."""
        command = [
            sys.executable,
            "-m",
            "everylabel.scripts.cli",
            "serve",
            "--port",
            str(self.port),
            *options,
        ]
        started = time.time()
        with self.log_path.open("ab") as log:
            self._child = Child("everylabel serve", command, environment=self.environment, output=log)
            self._child.keep_running(time.monotonic())
        heartbeat = self.settings.model_dir / "trainer.heartbeat"

        def alive() -> bool:
            try:
                fresh = heartbeat.stat().st_mtime > started
                return fresh and httpx.get(f"{self.settings.public_url}/health").json()["status"] == "UP"
            except (httpx.TransportError, FileNotFoundError):
                return False

        wait_until(alive, f"everylabel serve has not started, see {self.log_path}", 90)

    @property
    def pid(self) -> int:
        """The process of `everylabel serve`."""
        assert self._child is not None
        assert self._child.process is not None
        return self._child.process.pid

    def kill(self) -> None:
        """End all its processes as a power cut would."""
        for pid in (self.pid, *descendants(self.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """End it as a service manager would."""
        if self._child is not None:
            self._child.stop(patience=30)
            self._child = None

    def command(
        self, *arguments: str, seconds: float = 120.0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run an `everylabel` command as a person would, in a process of its own, for so long at most."""
        return subprocess.run(
            [sys.executable, "-m", "everylabel.scripts.cli", *arguments],
            env={**self.environment, **environment},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def connect(self, project: int) -> RoundRecord:
        """What `everylabel connect` does; returns the newest round."""
        connect_project(self.services, project)
        return self.round(project)

    def round(self, project: int) -> RoundRecord:
        """The newest round that has been published."""
        return [r for r in self.services.store.rounds(project) if r.published_at is not None][-1]

    def number(self, project: int) -> int:
        """The newest published round's number, 0 before the first."""
        return max((r.number for r in self.services.store.rounds(project) if r.published_at), default=0)

    def wait_for_round(
        self, project: int, *, after: int = 0, labels: int | None = None, seconds: float = 120.0
    ) -> RoundRecord:
        """Return the newest round once Label Studio serves it: newer than ``after``, learned from ``labels``."""

        def served() -> RoundRecord | None:
            rounds = self.services.store.rounds(project)
            latest = rounds[-1] if rounds else None
            if latest is None or latest.published_at is None or latest.number <= after:
                return None
            if self.services.store.events(project) or (labels is not None and latest.n_labels != labels):
                return None
            shown = self.services.label_studio.project(project)["model_version"]
            return latest if shown == latest.model_version else None

        wanted = "" if labels is None else f" from {labels} labels"
        return wait_until(served, f"no round after {after}{wanted} came in project {project}", seconds)

    def labels(self, project: int) -> dict[int, str]:
        """The label the backend holds of each task."""
        held = self.services.store.annotations(project)
        return {a.task_id: a.choice for a in held if a.choice is not None and not a.cancelled}

    @contextmanager
    def busy_trainer(self) -> Iterator[None]:
        """Keep the trainer from getting on, as a training of any length would, until the block ends."""
        trainer = self.trainer_pid
        os.kill(trainer, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(trainer, signal.SIGCONT)

    @property
    def trainer_pid(self) -> int:
        """The process of its trainer."""
        for pid in descendants(self.pid):
            if "trainer" in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                return pid
        raise AssertionError("everylabel serve runs no trainer")
