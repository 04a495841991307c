"""`import everylabel`: a small API with its types, for people who use the learning core without Label Studio."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import everylabel
from tests.everylabel_process import REPOSITORY

PAGE = REPOSITORY / "docs" / "learning-core.md"
SLOW = ("torch", "sklearn", "scipy", "numpy", "onnxruntime", "cleanlab")

LABEL_ONE_CROP = """
import numpy as np
from everylabel import ActiveLearningSession
print(ActiveLearningSession(np.eye(4, dtype=np.float32)).run_round().batch[0] + 1)
"""


def python(*arguments: str, folder: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        **({"PYTHONPATH": str(path)} if path else {}),
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_import_everylabel_loads_nothing_that_takes_seconds(tmp_path):
    script = (
        "import json, sys, everylabel; everylabel.__version__, dir(everylabel); everylabel.query_strategy_names;"
        f"print(json.dumps([name for name in {SLOW!r} if name in sys.modules]))"
    )
    done = python("-c", script, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_every_public_name_is_there_and_documented():
    page = PAGE.read_text()
    for name in everylabel.__all__:
        assert getattr(everylabel, name) is not None
        assert name in dir(everylabel)
        assert re.search(rf"\b{name}\b", page), f"docs/learning-core.md does not mention {name}"


def test_the_version_is_that_of_the_project():
    written = (REPOSITORY / "pyproject.toml").read_text()
    assert f'\nversion = "{everylabel.__version__}"\n' in written


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Twins'"):
        _ = everylabel.Twins  # type: ignore[attr-defined]


def test_the_example_of_the_page_prints_what_the_page_says(tmp_path):
    example = blocks()[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 20, "twenty lines"
    done = python("-c", example, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    said = re.search(
        r"It prints `(\d+) labels: right on (\d+)% of the crops nobody labelled`", PAGE.read_text()
    )
    shown = re.fullmatch(r"(\d+) labels: right on (\d+)% of the crops nobody labelled\n", done.stdout)
    assert said
    assert shown
    assert shown[1] == said[1]
    assert int(shown[2]) == pytest.approx(int(said[2]), abs=2), "another processor may round otherwise"


def test_the_other_examples_of_the_page_run(tmp_path):
    for block in blocks()[1:]:
        done = python("-c", block, folder=tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python in whose site-packages everylabel lies as pip puts it there, and what it needs beside it."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("model", "backend", "scripts"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(folder / "env", symlinks=True)
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    options = (
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--no-compile",
        "--target",
        str(site),
    )
    done = python("-m", "pip", "install", *options, str(source), folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    shared = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "shared.pth").write_text(
        "\n".join(f"import site; site.addsitedir({path!r})" for path in shared) + "\n"
    )
    return folder / "env" / "bin" / "python"


@pytest.mark.extended
def test_a_script_of_three_lines_passes_mypy_strict_and_a_misspelt_name_does_not(installed, tmp_path):
    script = tmp_path / "label_one_crop.py"
    script.write_text(LABEL_ONE_CROP + "reveal_type(ActiveLearningSession.run_round)\n")
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from everylabel import ActiveLearningSesion\n")
    options = ("--strict", "--python-executable", str(installed), "--config-file=", "--show-error-codes")
    done = python("-m", "mypy", *options, str(script), str(wrong), folder=tmp_path)
    assert "label_one_crop.py:5: note: Revealed type is" in done.stdout, done.stdout + done.stderr
    assert "everylabel.model.round.Round" in done.stdout, "a round's type is known"
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, done.stdout
    assert errors[0].startswith("wrong.py:1:")
    assert errors[0].endswith("[attr-defined]")
    ran = subprocess.run(
        [str(installed), "-c", LABEL_ONE_CROP],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) in range(1, 5)
