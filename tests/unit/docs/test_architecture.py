"""docs/architecture.md is true: its floor plan, its layers, and every file and name it points at."""

from __future__ import annotations

import re
import sys

import pytest

from everylabel.backend.settings import Settings
from everylabel.scripts.docs import floor_plan, reference
from tests.everylabel_process import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = REPOSITORY / "docs" / "architecture.md"
TEXT = PAGE.read_text()
RENEW = "Run: python -m everylabel.scripts.docs.reference"
TOPS = ("scripts", "backend", "model")
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
CONTRACTS = PYPROJECT["tool"]["importlinter"]["contracts"]


def modules_in_the_folders() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for top in TOPS:
        for file in (REPOSITORY / top).rglob("*.py"):
            names = found.setdefault(f"{file.parent.relative_to(REPOSITORY)}/", set())
            names |= {file.stem} - {"__init__"}
    return found


def modules_on_the_page() -> dict[str, set[str]]:
    rows = re.findall(r"^\| `([\w/]+/)` \| (.+?) \| (.*?) ?\|$", TEXT, re.MULTILINE)
    return {package: set(re.findall(r"`(\w+)`", names)) for package, _, names in rows}


def test_the_floor_plan_has_every_package_and_every_module():
    assert modules_on_the_page() == modules_in_the_folders(), RENEW
    assert floor_plan.architecture_page(TEXT) == TEXT, RENEW


def test_the_reference_command_writes_the_floor_plan(monkeypatch, tmp_path):
    page = tmp_path / "architecture.md"
    page.write_text(TEXT.replace("| `backend/rounds/` |", "| `backend/circles/` |"))
    monkeypatch.setattr(floor_plan, "PAGE", page)
    monkeypatch.setattr(reference, "DOCS", tmp_path)
    reference.main()
    assert page.read_text() == TEXT
    assert {path.name for path in tmp_path.glob("*.md")} == {"architecture.md", "settings.md", "reference.md"}


def test_every_package_says_what_it_is_for_in_a_sentence():
    for package, purpose in re.findall(r"^\| `([\w/]+/)` \| (.*?) \|", TEXT, re.MULTILINE):
        assert purpose.endswith("."), f"{package}__init__.py: {purpose!r}"


@pytest.mark.parametrize("top", TOPS)
def test_the_layers_inside_are_those_that_import_linter_holds(top):
    (block,) = re.findall(rf"[Ii]nside `{top}/`[^`]*?(?:`\|`[^`]*)?```text\n(.*?)\n```", TEXT, re.DOTALL)
    (inside,) = [contract for contract in CONTRACTS if contract.get("containers") == [f"everylabel.{top}"]]
    assert block.splitlines() == inside["layers"]
    assert inside["exhaustive"]
    assert "ignore_imports" not in inside
    named = {name for line in block.splitlines() for name in re.findall(r"\w+", line)}
    packages = {file.parent.name for file in (REPOSITORY / top).glob("*/__init__.py")}
    modules = {file.stem for file in (REPOSITORY / top).glob("*.py")} - {"__init__"}
    assert named == packages | modules


def test_the_layers_are_those_that_import_linter_holds():
    (outside,) = [contract for contract in CONTRACTS if "containers" not in contract and "layers" in contract]
    assert " → ".join(layer.removeprefix("everylabel.") for layer in outside["layers"]) in TEXT


def paths_on_the_page() -> list[str]:
    return sorted(
        {path for path in re.findall(r"`([\w./-]+)`", TEXT) if "/" in path and not path.startswith("/")}
    )


@pytest.mark.parametrize("path", paths_on_the_page())
def test_every_file_and_folder_it_names_is_there(path):
    inside = path if path.split("/")[0] in (*TOPS, "tests", "docs") else f"tests/{path}"
    assert (REPOSITORY / inside).exists()


def names_in_files() -> list[tuple[str, str]]:
    pairs = re.findall(r"`([A-Za-z_.]+)(?:\(\))?` in\s+`([\w/]+\.py)`", TEXT)
    assert len(pairs) >= 3
    return pairs


@pytest.mark.parametrize(("name", "path"), names_in_files())
def test_what_it_names_in_a_file_is_defined_there(name, path):
    written = (REPOSITORY / path).read_text()
    for part in name.split("."):
        assert re.search(rf"\b(def|class) {part}\b", written), f"{path} defines no {part}"


def test_every_setting_it_names_is_a_setting():
    names = {f"EVERYLABEL_{name.upper()}" for name in Settings.model_fields}
    names |= {
        alias
        for line in (REPOSITORY / "docs" / "settings.md").read_text().splitlines()
        for alias in re.findall(r"`(EVERYLABEL_\w+)`", line)
    }
    assert set(re.findall(r"EVERYLABEL_\w+", TEXT)) <= names


@pytest.mark.parametrize("top", TOPS)
def test_the_unit_tests_lie_in_the_same_folders(top):
    tests = REPOSITORY / "tests" / "unit" / top
    for file in tests.rglob("test_*.py"):
        assert (REPOSITORY / top / file.parent.relative_to(tests)).is_dir(), (
            f"{file.parent} mirrors no package"
        )
