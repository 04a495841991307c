"""CONTRIBUTING.md, SECURITY.md, CHANGELOG.md and the pre-commit hooks say what is so."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest
import yaml

import everylabel
from tests.everylabel_process import REPOSITORY

CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text()
SECURITY = (REPOSITORY / "SECURITY.md").read_text()
CHANGELOG = (REPOSITORY / "CHANGELOG.md").read_text()
MAKEFILE = (REPOSITORY / "Makefile").read_text()
HOOKS = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())


def test_the_targets_that_contributing_names_can_be_made():
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", CONTRIBUTING))
    assert {"demo", "test", "lint"} <= named <= targets


@pytest.mark.parametrize("text", [CONTRIBUTING, SECURITY], ids=["CONTRIBUTING", "SECURITY"])
def test_the_files_and_folders_they_name_are_there(text):
    named = set(re.findall(r"\b(?:backend|model|scripts|tests|docs)/[\w./-]*\w", text))
    assert len(named) >= 5
    assert [path for path in sorted(named) if not (REPOSITORY / path).exists()] == []


def test_the_hooks_run_what_make_lint_runs_and_fetch_nothing():
    hooks = [hook for repo in HOOKS["repos"] for hook in repo["hooks"]]
    assert {repo["repo"] for repo in HOOKS["repos"]} == {"local"}
    assert {hook["language"] for hook in hooks} == {"system"}
    dry = subprocess.run(
        ["make", "--no-print-directory", "-n", "-o", ".venv/.installed-test", "lint"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    wanted = [line for line in dry.splitlines() if ".venv/bin/" in line and "pip" not in line]
    run = [shlex.split(hook["entry"])[-1] if "bash" in hook["entry"] else hook["entry"] for hook in hooks]
    assert [entry.removeprefix("make -s types && ") for entry in run] == wanted


def test_the_changelog_keeps_its_form_and_knows_this_version():
    versions = re.findall(r"^## \[?([^\]\n]+)\]?", CHANGELOG, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert everylabel.__version__ in versions
    kinds = set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/architecture.md"])
def test_the_readme_leads_there(name):
    assert f"]({name})" in (REPOSITORY / "README.md").read_text()
