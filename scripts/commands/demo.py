"""`everylabel demo`: run Label Studio and everylabel side by side on this machine, on real crops."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated
from xml.sax.saxutils import quoteattr

import httpx
import typer
from rich.panel import Panel

from everylabel.backend.bootstrap import build
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.errors import LabelStudioError, ProjectNotFoundError
from everylabel.backend.label_studio.hotkeys import submit_with_enter
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.label_studio.required_class import ATTRIBUTES
from everylabel.backend.label_studio.versions import NEWEST
from everylabel.backend.progress import Progress
from everylabel.scripts.commands.connect import connect_project
from everylabel.scripts.commands.serve import Child
from everylabel.scripts.console import console, fail, load_settings, progress
from everylabel.scripts.local_label_studio.install import environment_in
from everylabel.scripts.local_label_studio.server import InstallError, LabelStudioServer, ServerError
from everylabel.scripts.local_label_studio.simulated_annotator import AnnotatorError, annotate
from everylabel.scripts.replay import datasets
from everylabel.scripts.replay.datasets import Dataset, DatasetError

UPLOAD_FILES = 100
START_SECONDS = 60.0
NUMBER = re.compile(r"(?:^|[-/])crop-(\d{6})[-.]")
"""How a crop was named in projects that an earlier demo made."""
FILE_NAME = "file_name"
"""Where a task's data holds the name of a person's own file."""


class Annotator(str, Enum):
    """The annotator of the demo: a person, or a simulated one."""

    human = "human"
    simulated = "simulated"


def demo(
    data: Annotated[str, typer.Option(help=f"Crops to label: {', '.join(datasets.names())}.")] = "digits",
    images: Annotated[
        Path | None, typer.Option(help="A folder of your own crops instead.", file_okay=False)
    ] = None,
    classes: Annotated[
        str, typer.Option(help="Their classes, as in `cat,dog`; or one subfolder a class.")
    ] = "",
    annotator: Annotated[Annotator, typer.Option(help="Who labels.")] = Annotator.human,
    labels: Annotated[int, typer.Option(min=1, help="How many labels the simulated annotator gives.")] = 60,
    report: Annotated[Path | None, typer.Option(help="Where its JSON report goes.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew: forget the labels of earlier runs.")
    ] = False,
    directory: Annotated[Path, typer.Option(help="Where the demo keeps everything.")] = Path(".everylabel"),
    port: Annotated[int, typer.Option(help="Label Studio's port; a free one if it is taken.")] = 8080,
    backend_port: Annotated[int, typer.Option(help="The backend's port; a free one if it is taken.")] = 9090,
    label_studio: Annotated[
        Path | None,
        typer.Option(help=f"An installed label-studio {NEWEST}, to use instead of installing one."),
    ] = None,
) -> None:
    """Start Label Studio and everylabel on real crops, connect them, and say where to open them."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave through every `finally`
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` leaves it ignored
    home = directory / "demo"
    simulated = annotator is Annotator.simulated
    if fresh:
        shutil.rmtree(home, ignore_errors=True)
    try:
        dataset = _dataset(data, images, classes, directory)
        if simulated and dataset.labels is None:
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
            _run(dataset, server, home, _free_port(backend_port), labels if simulated else None, report)
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
    console.print("Stopped. The next run goes on from here; [bold]--fresh[/] starts anew.")


def _run(
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
        project_id = _project(client, dataset, home / "projects.json")
        numbers = _upload(client, project_id, dataset, bars)
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


def _dataset(data: str, images: Path | None, classes: str, directory: Path) -> Dataset:
    names = tuple(name.strip() for name in classes.split(",") if name.strip())
    dataset = datasets.load(images or data, directory / "data", classes=names, console=console)
    if dataset.licence:
        console.print(f"[dim]{dataset.licence}[/]")
    for skipped in dataset.skipped[:5]:
        console.print(f"[yellow]Left out[/] {skipped.path}: {skipped.reason}")
    if len(dataset.skipped) > 5:
        console.print(f"[yellow]… and {len(dataset.skipped) - 5} more files.[/]")
    return dataset


def label_config(classes: tuple[str, ...]) -> str:
    """Return the labeling config of the demo: an image and one choice."""
    # A class of one letter or digit is that key; left alone, Label Studio gives the class 0 the key 1.
    own_keys = all(len(name) == 1 for name in classes)
    choices = "".join(
        f"<Choice value={quoteattr(name)}{f' hotkey={quoteattr(name.lower())}' if own_keys else ''}/>"
        for name in classes
    )
    return (
        '<View><Image name="image" value="$image" maxWidth="420px"/>'
        f'<Choices name="label" toName="image" choice="single" showInLine="true" {ATTRIBUTES}>'
        f"{choices}</Choices></View>"
    )


def _project(client: LabelStudio, dataset: Dataset, memory: Path) -> int:
    """Return the project of this data set: that of an earlier run, or a new one."""
    known: dict[str, int] = json.loads(memory.read_text(encoding="utf-8")) if memory.exists() else {}
    if dataset.name in known:
        try:
            return int(client.project(known[dataset.name])["id"])
        except ProjectNotFoundError:
            pass
    project = client.create_project(f"everylabel: {dataset.name}"[:50], label_config(dataset.classes))
    known[dataset.name] = int(project["id"])
    memory.write_text(json.dumps(known), encoding="utf-8")
    return int(project["id"])


def _upload(client: LabelStudio, project_id: int, dataset: Dataset, bars: Progress) -> dict[int, int]:
    """Upload the crops that are missing, under their own names.

    Returns:
        The position in the data set of each task's crop, by the task's id.
    """
    names = file_names(dataset)
    numbers = _numbers(client, project_id, names)
    missing = sorted(set(range(len(dataset))) - set(numbers.values()))
    for start in range(0, len(missing), UPLOAD_FILES):
        chunk = missing[start : start + UPLOAD_FILES]
        addresses = client.upload_files(
            project_id, [(dataset.images[n].name, dataset.images[n].read_bytes()) for n in chunk]
        )
        client.import_tasks(
            project_id,
            [
                {"data": {"image": address, FILE_NAME: names[n]}}
                for n, address in zip(chunk, addresses, strict=True)
            ],
        )
        bars("Uploading crops", start + len(chunk), len(missing))
    return _numbers(client, project_id, names) if missing else numbers


def file_names(dataset: Dataset) -> list[str]:
    """Return each crop's file name, with its folder below the one they all share: `cats/1.jpg`."""
    if not dataset.images:
        return []
    folder = os.path.commonpath([image.parent for image in dataset.images])
    return [image.relative_to(folder).as_posix() for image in dataset.images]


def _numbers(client: LabelStudio, project_id: int, names: Sequence[str]) -> dict[int, int]:
    """Return the position in the data set of each task's crop, by its file's name."""
    place = {name: number for number, name in enumerate(names)}
    found: dict[int, int] = {}
    for task in client.tasks(project_id):
        data = task["data"]
        if data.get(FILE_NAME) in place:
            found[int(task["id"])] = place[data[FILE_NAME]]
        elif match := NUMBER.search(str(data.get("image", ""))):
            found[int(task["id"])] = int(match.group(1))
    return found


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
        f"Sign in, open the project ({len(dataset)} crops) and press [bold]Label All Tasks[/]: the crop that teaches "
        "the model most comes first. Two keys label it: its class's, then Enter. Every label retrains it and refills the queue. From the tenth label on, crops "
        "the model is confident of arrive pre-filled: see the tabs [bold]Pseudo-labels[/] and [bold]Suspect labels[/]. "
        "Ctrl-C stops everything.",
        title="everylabel demo",
        width=min(100, console.width),
    )
