"""`everylabel demo`: run Label Studio and everylabel side by side on this machine, on real crops."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.panel import Panel

from everylabel.backend.bootstrap import build
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.backend.label_studio.hotkeys import submit_with_enter
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.scripts import image_projects
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.commands.connect import connect_project
from everylabel.scripts.commands.serve import Child
from everylabel.scripts.console import console, counted, fail, progress
from everylabel.scripts.local_label_studio.install import environment_in
from everylabel.scripts.local_label_studio.server import InstallError, LabelStudioServer, ServerError
from everylabel.scripts.local_label_studio.simulated_annotator import AnnotatorError, annotate
from everylabel.scripts.replay import datasets
from everylabel.scripts.replay.datasets import Dataset, DatasetError

START_SECONDS = 60.0


@dataclass(frozen=True)
class Crops:
    """The crops to label: a data set by name, or a folder of a person's own and their classes with commas."""

    data: str
    images: Path | None
    classes: str


def run(
    crops: Crops,
    directory: Path,
    *,
    simulated_labels: int | None,
    report: Path | None,
    fresh: bool,
    port: int,
    backend_port: int,
    label_studio: Path | None,
) -> None:
    """Run Label Studio and the backend until Ctrl-C, or until the simulated annotator has given its labels.

    Args:
        crops: the crops to label.
        directory: where the demo keeps everything.
        simulated_labels: how many labels a simulated annotator gives; None where a person labels.
        report: where the simulated annotator's JSON report goes.
        fresh: forget the labels of earlier runs.
        port: the port of Label Studio; a free one if it is taken.
        backend_port: the port of the backend, likewise.
        label_studio: an installed Label Studio; None to install one.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave through every `finally`
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` leaves it ignored
    home = directory / "demo"
    if fresh:
        shutil.rmtree(home, ignore_errors=True)
    try:
        dataset = _dataset(crops, directory)
        if simulated_labels is not None and dataset.labels is None:
            fail(
                "The simulated annotator must know the answers: give it one subfolder a class, or --data digits."
            )
        server = LabelStudioServer(
            home / "label-studio",
            environment_dir=environment_in(directory),
            executable=label_studio,
            port=_free_port(port),
            console=console,
        )
        with server:
            _label(dataset, server, home, _free_port(backend_port), simulated_labels, report)
    except (
        DatasetError,
        ServerError,
        InstallError,
        LabelStudioError,
        LabelConfigError,
        AnnotatorError,
    ) as error:
        fail(error)
    except KeyboardInterrupt:
        pass
    console.print("Stopped. The next run continues from here; [bold]--fresh[/] starts anew.")


def _label(
    dataset: Dataset,
    server: LabelStudioServer,
    home: Path,
    backend_port: int,
    simulated_labels: int | None,
    report: Path | None,
) -> None:
    settings = load_settings(
        label_studio_url=server.url,
        label_studio_api_key=server.credentials.token,
        model_dir=home.absolute() / "backend",
        public_url=f"http://127.0.0.1:{backend_port}",
    )
    environment = {
        "LABEL_STUDIO_URL": settings.label_studio_url,
        "LABEL_STUDIO_API_KEY": server.credentials.token,
        "MODEL_DIR": str(settings.model_dir),
        "EVERYLABEL_PUBLIC_URL": settings.public_url,
    }
    environment_file = home.absolute() / "environment"
    write_environment(environment, environment_file)
    client = LabelStudio(server.url, server.credentials.token)
    if not (home / "projects.json").exists():  # later the demo's user may have chosen another key
        submit_with_enter(client)
    with progress() as bars:
        project_id = image_projects.project_of(
            client, home / "projects.json", dataset.name, f"everylabel: {dataset.name}", dataset.classes
        )
        numbers = image_projects.upload(client, project_id, dataset, bars)
    with _backend(environment, backend_port, home / "everylabel.log"):
        backend = build(settings)
        with progress() as bars:
            connect_project(backend, project_id, bars)
        if simulated_labels is not None:
            assert dataset.labels is not None  # noqa: S101 - checked before anything was started
            truth = {task_id: dataset.labels[number] for task_id, number in numbers.items()}
            with progress() as bars:
                outcome = annotate(backend, project_id, truth, simulated_labels, bars)
            text = json.dumps(outcome.report(), indent=2)
            if report is not None:
                report.write_text(text + "\n", encoding="utf-8")
            console.print_json(text)
            return
        console.print(_welcome(server, settings.public_url, project_id, dataset))
        console.print(
            f"For other commands, in another terminal: . {shlex.quote(str(environment_file))}",
            markup=False,
            soft_wrap=True,
        )
        signal.pause()


def _dataset(crops: Crops, directory: Path) -> Dataset:
    names = tuple(name.strip() for name in crops.classes.split(",") if name.strip())
    dataset = datasets.load(crops.images or crops.data, directory / "data", classes=names, console=console)
    if dataset.licence:
        console.print(f"[dim]{dataset.licence}[/]")
    image_projects.say_what_was_skipped(dataset)
    return dataset


def write_environment(environment: Mapping[str, str], path: Path) -> None:
    """Write settings for a shell to source; only their owner can read them, for a token is among them."""
    lines = (f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    with os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        os.fchmod(file.fileno(), 0o600)
        file.writelines(lines)


@contextmanager
def _backend(environment: Mapping[str, str], port: int, log_path: Path) -> Iterator[None]:
    """Run `everylabel serve` as a child process until the block ends."""
    with log_path.open("ab") as output:
        child = Child(
            "backend",
            [sys.executable, "-m", "everylabel.scripts.cli", "serve", "--port", str(port)],
            environment={**os.environ, **environment},
            output=output,
        )
        try:
            child.keep_running(time.monotonic())
            _wait_for_backend(child, port, log_path)
            yield
        finally:
            child.stop(patience=30)


def _wait_for_backend(child: Child, port: int, log_path: Path) -> None:
    until = time.monotonic() + START_SECONDS
    with console.status("Starting everylabel"):
        while time.monotonic() < until:
            if child.process is not None and child.process.poll() is not None:
                break
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).json()["trainer"] == "alive":
                    return
            except (httpx.HTTPError, ValueError, KeyError):
                pass
            time.sleep(0.2)
    raise ServerError(f"everylabel did not start; {log_path} says why.")


def _free_port(wanted: int) -> int:
    """Return `wanted`, or a free port where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerError("No port is free on this machine.")


def _welcome(server: LabelStudioServer, backend_url: str, project_id: int, dataset: Dataset) -> Panel:
    return Panel(
        f"Label Studio  [bold]{server.url}/projects/{project_id}/[/]\n"
        f"the page      [bold]{backend_url}/projects/{project_id}[/]\n"
        f"user          [bold]{server.credentials.username}[/]\n"
        f"password      [bold]{server.credentials.password}[/]\n\n"
        f"Sign in, open the project ({counted(len(dataset), 'crop')}) and press [bold]Label All Tasks[/]: the crop that "
        "teaches the model most comes first. Two keys label a crop: the key shown beside its class, then Enter. Every label "
        "retrains the model and refills the queue. From the tenth label on, some crops arrive pre-filled; more of them are in "
        "the tab [bold]Pseudo-labels[/], and labels that look wrong in [bold]Suspect labels[/]. Ctrl-C stops everything.",
        title="everylabel demo",
        width=min(100, console.width),
    )
