"""Install Label Studio into its own environment: its pins of Django and numpy must not meet ours."""

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

from everylabel.backend.label_studio.versions import NEWEST

#: How many packages Label Studio brings; only the bar's length depends on it.
USUAL_PACKAGES: Final = 155


class InstallError(RuntimeError):
    """Label Studio could not be installed; the message says why and what to do."""


def environment_in(folder: Path, version: str = NEWEST) -> Path:
    """Return the directory of a version's environment in a folder of several."""
    return folder / f"label-studio-{version}"


def install(
    directory: Path, version: str = NEWEST, *, python: Path | None = None, console: Console | None = None
) -> Path:
    """Return the `label-studio` executable of the environment in `directory`, installing it if need be.

    A finished installation is recognised by its marker and costs nothing; an interrupted one continues where it
    stopped. Two processes that install into one directory wait for each other.

    Args:
        directory: where this version alone is installed.
        version: the version of Label Studio.
        python: the interpreter to make the environment with; ours by default.
        console: where progress is shown; standard error by default.

    Raises:
        InstallError: the installation failed; the message holds the end of the installer's output.
    """
    directory = directory.resolve()  # a link to a finished environment is that one, not one that was moved
    python = python or Path(sys.executable)
    console = console or Console(stderr=True)
    executable = directory / "bin" / "label-studio"
    if _is_complete(directory, version):
        return executable
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _locked(directory.with_name(directory.name + ".lock")):
        if _is_complete(directory, version):  # another process finished it while we waited
            return executable
        console.print(
            f"Installing Label Studio {version} into {directory} (once, a few minutes)", markup=False
        )
        if not _environment_works(directory):
            _create_environment(directory, python)
        _pip_install(directory, version, console)
        _marker(directory).write_text(json.dumps(_expected_marker(directory, version)), encoding="utf-8")
    return executable


def _marker(directory: Path) -> Path:
    return directory / "everylabel-installed.json"


def _expected_marker(directory: Path, version: str) -> dict[str, str]:
    # The place is part of it: an environment's scripts name their interpreter by its full path, so a moved
    # one is broken.
    return {"label-studio": version, "directory": str(directory)}


def _is_complete(directory: Path, version: str) -> bool:
    try:
        found = json.loads(_marker(directory).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return bool(found == _expected_marker(directory, version)) and os.access(
        directory / "bin" / "label-studio", os.X_OK
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clean_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return `inherited` without the variables that would let in another environment's packages or another target."""
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


def _pip_install(directory: Path, version: str, console: Console) -> None:
    """Run pip and show its progress as one bar: packages found at first, packages installed then."""
    pip = [str(directory / "bin" / "python"), "-m", "pip", "--no-input", "--disable-pip-version-check"]
    command = [*pip, "install", "--progress-bar", "off", f"label-studio=={version}"]
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
        output = _show_pip(process, lines, directory, version, console)
    except BaseException:  # Ctrl-C included: pip must not go on behind our back
        process.terminate()
        process.wait()
        raise
    if process.returncode != 0:
        tail = "\n".join(output[-15:])
        raise InstallError(
            f"pip could not install Label Studio {version} (exit status {process.returncode}):\n\n{tail}\n\n"
            "Check the version, the network and the free space, then run this again: it goes on where it stopped."
        )


def _forward_lines(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    if process.stdout is None:
        return
    for line in process.stdout:
        lines.put(line.rstrip())


def _show_pip(
    process: subprocess.Popen[str],
    lines: queue.Queue[str],
    directory: Path,
    version: str,
    console: Console,
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
                bar, completed=2 * USUAL_PACKAGES, description=f"Label Studio {version} is installed"
            )
    return output


def _count_packages(directory: Path) -> int:
    return sum(1 for _ in directory.glob("lib/python*/site-packages/*.dist-info"))
