"""`everylabel serve`: run a web server and, beside it, a trainer; each is restarted if it dies."""

from __future__ import annotations

import ipaddress
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from everylabel.backend import logs
from everylabel.backend.bootstrap import build
from everylabel.backend.store.private_files import OTHERS, keep_private
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, fail

log = logging.getLogger("everylabel.serve")

LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_AFTER_SECONDS = 60.0


def run(host: str, port: int, *, threads: int, workers: int) -> None:
    """Start web server and trainer, and keep them running until SIGINT or SIGTERM."""
    settings = load_settings()
    logs.configure(settings)
    if not _is_loopback(host) and not settings.has_auth:
        fail(
            f"{host} can be reached from other machines, so the backend must ask for a password: set "
            "BASIC_AUTH_USER and BASIC_AUTH_PASS (or EVERYLABEL_BEARER_SECRET), or listen on 127.0.0.1."
        )
    os.umask(OTHERS)
    keep_private(settings.model_dir)
    if not settings.database_url.get_secret_value():  # a PostgreSQL may answer later
        # A damaged store is told in one sentence, once: both processes would end of it again and again.
        build(settings).store.close()
    console.print(f"The page for people: [bold]{settings.page_url or _page(host, port)}/[/]")
    web = [
        *(sys.executable, "-m", "gunicorn", "everylabel.backend.wsgi:application()"),
        *(
            "--bind",
            _netloc(host, port),
            "--workers",
            str(workers),
            "--worker-class",
            "everylabel.backend.web_server.worker.BufferingWorker",
            "--threads",
            str(threads),
        ),
        *("--timeout", "120", "--graceful-timeout", "10", "--keep-alive", "75", "--log-level", "warning"),
        "--no-control-socket",
    ]
    environment = _shared_metrics(settings.model_dir / "metrics") if workers > 1 else None
    supervise(
        [
            Child("web", web, environment=environment),
            Child("trainer", [sys.executable, "-m", "everylabel.scripts.cli", "trainer"]),
        ]
    )


def _shared_metrics(folder: Path) -> dict[str, str]:
    """Return the environment in which several workers add up their metrics, whichever of them answers `/metrics`."""
    shutil.rmtree(folder, ignore_errors=True)  # what workers counted before this start
    folder.mkdir(parents=True)
    return {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}


@dataclass
class Child:
    """One of the processes that make up a backend."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    starts: int = 0
    start_at: float = field(default_factory=time.monotonic)
    environment: Mapping[str, str] | None = None
    output: IO[bytes] | None = None

    def keep_running(self, now: float) -> None:
        """Start the process if it is due, and schedule a restart if it has died.

        Args:
            now: seconds of the monotonic clock.
        """
        if self.process is not None and self.process.poll() is not None:
            code = self.process.returncode
            self.starts = 0 if now - self.started_at > HEALTHY_AFTER_SECONDS else self.starts
            pause = min(LONGEST_PAUSE_SECONDS, 0.5 * 2.0 ** min(self.starts, 10) - 0.5)
            log.error("the %s ended with code %s; it starts again in %.1f s", self.name, code, pause)
            self.process, self.start_at = None, now + pause
        if self.process is None and now >= self.start_at:
            # Its own group: Ctrl-C reaches it through us, in order, and not from the terminal.
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdout=self.output,
                stderr=self.output,
                start_new_session=True,
            )
            self.started_at, self.starts = now, self.starts + 1

    def stop(self, patience: float = 15.0) -> None:
        """Terminate the process, and kill it after `patience` seconds."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def supervise(children: list[Child], until: Callable[[], bool] | None = None) -> None:
    """Keep every child running until SIGINT or SIGTERM (or `until` says so), then end them all."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        while not stopping.is_set() and not (until and until()):
            for child in children:
                child.keep_running(time.monotonic())
            stopping.wait(0.2)
    finally:
        for child in children:
            if child.process is not None and child.process.poll() is None:
                child.process.terminate()
        for child in children:
            child.stop()


def _page(host: str, port: int) -> str:
    """Return the address for a browser on this machine: not every browser opens 0.0.0.0."""
    return f"http://localhost:{port}" if host in {"0.0.0.0", "::"} else f"http://{_netloc(host, port)}"  # noqa: S104


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
