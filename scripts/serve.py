"""`everylabel serve`: the backend, as a web server and a trainer beside it, each restarted if it dies."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Annotated

import typer

from backend import logs
from backend.services import Services
from scripts.console import fail, load_settings

log = logging.getLogger("everylabel.serve")

LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_AFTER_SECONDS = 60.0


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 9090,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Requests answered at a time.")] = 8,
) -> None:
    """Start the ML backend: a web server that answers at once, and a trainer beside it."""
    settings = load_settings()
    logs.configure(settings.log_level)
    if not _is_loopback(host) and not settings.has_auth:
        fail(
            f"{host} can be reached from other machines, so the backend must ask for a password: set "
            "BASIC_AUTH_USER and BASIC_AUTH_PASS, or listen on 127.0.0.1."
        )
    settings.model_dir.mkdir(parents=True, exist_ok=True)
    web = [
        *(sys.executable, "-m", "gunicorn", "backend.wsgi:application()"),
        *(
            "--bind",
            f"{host}:{port}",
            "--workers",
            "1",
            "--worker-class",
            "gthread",
            "--threads",
            str(threads),
        ),
        *("--timeout", "120", "--graceful-timeout", "10", "--keep-alive", "75", "--log-level", "warning"),
        "--no-control-socket",
    ]
    supervise([Child("web", web), Child("trainer", [sys.executable, "-m", "scripts.cli", "trainer"])])


def trainer() -> None:
    """Embed crops and run rounds until stopped; `serve` starts this."""
    settings = load_settings()
    logs.configure(settings.log_level)
    # An annotator waits for the web server, inside their own click; nobody waits for the trainer.
    os.nice(10)
    services = Services(settings)
    services.start_heartbeat()
    services.wake()
    services.jobs.run_trainer()


@dataclass
class Child:
    """One of the processes a backend consists of."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    starts: int = 0
    start_at: float = field(default_factory=time.monotonic)
    environment: Mapping[str, str] | None = None
    output: IO[bytes] | None = None

    def tend(self, now: float) -> None:
        """Start the process if it is due; notice when it has died."""
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
        """End the process: ask first, insist after `patience` seconds."""
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
                child.tend(time.monotonic())
            stopping.wait(0.2)
    finally:
        for child in children:
            if child.process is not None and child.process.poll() is None:
                child.process.terminate()
        for child in children:
            child.stop()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
