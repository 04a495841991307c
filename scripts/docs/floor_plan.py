"""Generate the floor plan of docs/architecture.md from the folders: one line a package, and its modules."""

from __future__ import annotations

import ast
from pathlib import Path

from everylabel.scripts.generated_text import insert

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "architecture.md"
FOLDERS = ("scripts", "backend", "model")
"""From the top: each may import what comes after it."""
BY = "everylabel.scripts.docs.reference"
WHAT = "(floor plan)"


def architecture_page(page: str) -> str:
    """Return docs/architecture.md with its floor plan as the folders are."""
    return insert(page, WHAT, floor_plan(), by=BY)


def floor_plan() -> str:
    """Return a table with a row a package: what its docstring says, and the names of its modules."""
    rows = [_row(package) for top in FOLDERS for package in packages(REPOSITORY / top)]
    return "\n".join(["", "| package | what it is for | modules |", "|---|---|---|", *rows, "", ""])


def packages(top: Path) -> list[Path]:
    """Return a folder and the packages in it, sorted."""
    return sorted(file.parent for file in top.rglob("__init__.py"))


def _row(package: Path) -> str:
    modules = sorted(file.stem for file in package.glob("*.py") if file.stem != "__init__")
    named = ", ".join(f"`{name}`" for name in modules)
    return f"| `{package.relative_to(REPOSITORY)}/` | {_purpose(package / '__init__.py')} | {named} |"


def _purpose(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ")
