"""The wheel holds all of the program, and runs from anywhere without the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("backend", "model", "scripts")
NOT_INSTALLED = ("backend/Dockerfile", "backend/page/vendor/")
"""What builds the image, and the libraries of the page; the program itself reads neither."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools writes into the folder that it builds from."""
    copy = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy / name)
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True, timeout=250)
    (built,) = (copy / "dist").glob("everylabel-*-py3-none-any.whl")
    return built


def test_every_file_of_the_program_is_in_it(wheel: Path) -> None:
    files = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in FOLDERS
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted = {
        f"everylabel/{name.removeprefix('model/public_api/')}"
        for name in files
        if not name.startswith(NOT_INSTALLED)
    }
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("everylabel/")}
        entry_points = archive.read(next(n for n in archive.namelist() if n.endswith("entry_points.txt")))
    assert sorted(wanted - held) == [], "name its package, or its kind of file, in pyproject.toml"
    assert b"everylabel = everylabel.scripts.cli:main" in entry_points


def test_its_commands_run_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    run = (
        "import sys, everylabel.scripts.cli as cli, everylabel.scripts.commands.demo, everylabel.scripts.commands.init, "
        "everylabel.scripts.commands.dataset, everylabel.backend.app; print(cli.__file__); cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", run, "init", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert "A folder of images" in done.stdout
