"""Installs Label Studio into an environment of its own: its pins of Django and numpy must not meet ours."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

VERSION: Final = "1.23.2"

#: How many packages Label Studio 1.23.2 brings; only the bar's length depends on it.
USUAL_PACKAGES: Final = 155


class InstallError(RuntimeError):
    """Label Studio could not be installed; the message says why and what to do."""


def install(directory: Path, *, python: Path | None = None, console: Console | None = None) -> Path:
    """Return the ``label-studio`` executable of the environment in ``directory``, made first if need be.

    ``python`` is the interpreter to make it with (ours by default). A finished installation is recognised
    by its marker and costs nothing; an interrupted one is taken up where it stopped. Two processes that
    install into one directory wait for each other. Raises :class:`InstallError` with the tail of the
    installer's output.
    """
    directory = directory.absolute()
    python = python or Path(sys.executable)
    console = console or Console(stderr=True)
    executable = directory / "bin" / "label-studio"
    if _is_complete(directory):
        return executable
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _locked(directory.with_name(directory.name + ".lock")):
        if _is_complete(directory):  # another process finished it while we waited
            return executable
        console.print(
            f"Installing Label Studio {VERSION} into {directory} (once, a few minutes)", markup=False
        )
        if not _environment_works(directory):
            _create_environment(directory, python)
        _pip_install(directory, console)
        _marker(directory).write_text(json.dumps(_expected_marker(directory)), encoding="utf-8")
    return executable


def _marker(directory: Path) -> Path:
    return directory / "everylabel-installed.json"


def _expected_marker(directory: Path) -> dict[str, str]:
    # The place is part of it: an environment's scripts name their interpreter by its full path, so a moved
    # one is broken.
    return {"label-studio": VERSION, "directory": str(directory)}


def _is_complete(directory: Path) -> bool:
    try:
        found = json.loads(_marker(directory).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return bool(found == _expected_marker(directory)) and os.access(
        directory / "bin" / "label-studio", os.X_OK
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clean_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return ``inherited`` without what would let another environment's packages, or another target, in."""
    redirecting = {
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_USER",
        "PIP_REQUIRE_VIRTUALENV",
        "PIP_CONSTRAINT",
        "VIRTUAL_ENV",
        "__PYVENV_LAUNCHER__",
    }
    return {
        name: value
        for name, value in inherited.items()
        if name not in redirecting and not name.startswith("PYTHON")
    }


def _environment_works(directory: Path) -> bool:
    interpreter = directory / "bin" / "python"
    if not interpreter.exists():
        return False
    # An environment that was moved, or whose creation was interrupted, has no working pip of its own.
    check = "import pip, sys; sys.exit(not sys.prefix == sys.argv[1])"
    done = subprocess.run(
        [str(interpreter), "-c", check, str(directory)],
        env=_clean_environment(os.environ),
        capture_output=True,
        check=False,
    )
    script = directory / "bin" / "pip"
    moved = script.exists() and str(directory) not in script.read_text(encoding="utf-8", errors="replace")
    return done.returncode == 0 and not moved


def _create_environment(directory: Path, python: Path) -> None:
    done = subprocess.run(
        [str(python), "-m", "venv", "--clear", str(directory)],
        env=_clean_environment(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return
    output = f"{done.stdout}\n{done.stderr}".strip()
    if "ensurepip" in output or "No module named venv" in output:
        raise InstallError(
            f"{python} cannot create environments (its ensurepip is missing). "
            "On Debian and Ubuntu: sudo apt-get install -y python3-venv. Then run this again."
        )
    raise InstallError(
        f"{python} -m venv {directory} failed:\n\n{output}\n\nCheck that there is space and try again."
    )


def _pip_install(directory: Path, console: Console) -> None:
    """Run pip and show its work as one bar: packages found at first, packages installed then."""
    pip = [str(directory / "bin" / "python"), "-m", "pip", "--no-input", "--disable-pip-version-check"]
    command = [*pip, "install", "--progress-bar", "off", f"label-studio=={VERSION}"]
    process = subprocess.Popen(
        command,
        env=_clean_environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a Ctrl-C reaches us first, and we end it below
    )
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=_forward_lines, args=(process, lines), daemon=True)
    reader.start()
    try:
        output = _show_pip(process, lines, directory, console)
    except BaseException:  # Ctrl-C included: pip must not go on behind our back
        process.terminate()
        process.wait()
        raise
    if process.returncode != 0:
        tail = "\n".join(output[-15:])
        raise InstallError(
            f"pip could not install Label Studio {VERSION} (exit status {process.returncode}):\n\n{tail}\n\n"
            "Check the network and the free space, then run this again: it goes on where it stopped."
        )


def _forward_lines(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    if process.stdout is None:
        return
    for line in process.stdout:
        lines.put(line.rstrip())


def _show_pip(
    process: subprocess.Popen[str], lines: queue.Queue[str], directory: Path, console: Console
) -> list[str]:
    output: list[str] = []
    found = 0
    already = _count_packages(directory)
    columns = (SpinnerColumn(), TextColumn("{task.description:<48.48}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("Asking for packages", total=2 * USUAL_PACKAGES)
        installing = 0
        while process.poll() is None or not lines.empty():
            try:
                line = lines.get(timeout=0.25)
            except queue.Empty:
                line = ""
            if line:
                output.append(line)
            if line.startswith(("Collecting ", "Requirement already satisfied: ")):
                found += 1
                name = line.removeprefix("Requirement already satisfied: ").split(" (from")[0]
                progress.update(bar, completed=min(found, USUAL_PACKAGES), description=name)
            elif line.lstrip().startswith("Downloading "):
                progress.update(bar, description=line.strip())
            elif line.startswith("Installing collected packages: "):
                installing = line.count(",") + 1
            if installing:
                # pip is silent while it unpacks, so what has arrived on disk is counted.
                arrived = min(max(_count_packages(directory) - already, 0), installing)
                progress.update(
                    bar,
                    completed=USUAL_PACKAGES * (1 + arrived / installing),
                    description=f"Unpacking {arrived} of {installing} packages",
                )
        if process.returncode == 0:
            progress.update(
                bar, completed=2 * USUAL_PACKAGES, description=f"Label Studio {VERSION} is installed"
            )
    return output


def _count_packages(directory: Path) -> int:
    return sum(1 for _ in directory.glob("lib/python*/site-packages/*.dist-info"))
