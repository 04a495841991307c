"""The package of docs/extending.md, installed into a fresh environment and used there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.extended

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = REPOSITORY / "docs" / "extending.md"
SCRIPT = str(REPOSITORY / "tests" / "label_with_a_plugin.py")


def files_of_the_page() -> dict[str, str]:
    """What the page says to save, by file name: the block after the sentence that names it."""
    found: dict[str, str] = {}
    for before, block in re.findall(
        r"((?:(?!```).)*?)```(?:python|toml)\n(.*?)```", PAGE.read_text(), re.DOTALL
    ):
        named = re.findall(r"`(\w+\.(?:py|toml))`", before.strip().splitlines()[-1])
        if named:
            found.setdefault(named[-1], block)
        elif test := re.findall(r"`(test_\w+\.py)`", before):
            found.setdefault(test[-1], block)
    return found


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own, where the page's strategy is installed and its encoder lies as a module."""
    folder = tmp_path_factory.mktemp("plugin")
    package = folder / "everylabel-farthest"
    package.mkdir()
    files = files_of_the_page()
    assert set(files) == {"everylabel_farthest.py", "pyproject.toml", "test_farthest.py", "colour_layout.py"}
    for name, text in files.items():
        (folder if name == "colour_layout.py" else package).joinpath(name).write_text(text)
    venv.create(folder / "env", with_pip=True)
    # Some Pythons put a setuptools of their own there, too old for the page.
    run(folder, "-m", "pip", "uninstall", "--yes", "--quiet", "setuptools")
    # What everylabel needs is there without a download: the packages of this environment, and everylabel itself.
    shared = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    lines = [str(REPOSITORY), *(f"import site; site.addsitedir({path!r})" for path in shared)]
    (site / "everylabel-and-what-it-needs.pth").write_text("\n".join(lines) + "\n")
    run(folder, "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation", str(package))
    return folder


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(folder / "env" / "bin" / "python"), *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder), "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_installed_strategy_labels_under_its_name(environment: Path) -> None:
    told = json.loads(
        run(
            environment,
            SCRIPT,
            "farthest-uncertain",
            "colour_layout:ColourLayoutEncoder",
        )
    )

    assert told["strategy"] == "everylabel_farthest"
    assert told["encoder"] == "colour_layout"
    assert len(told["labels"]) == 30
    assert told["right"] > 0.9
    by_path = run(
        environment,
        SCRIPT,
        "everylabel_farthest:FarthestUncertainQueryStrategy",
        "colour_layout:ColourLayoutEncoder",
    )
    assert json.loads(by_path) == told


def test_the_package_passes_the_tests_it_comes_with(environment: Path) -> None:
    told = run(
        environment, "-m", "pytest", "-q", "-p", "no:cacheprovider", "everylabel-farthest/test_farthest.py"
    )

    assert re.search(r"^\d\d passed", told, re.MULTILINE), told
