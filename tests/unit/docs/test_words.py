"""One word a thing, and it is the field's: code, messages and pages keep to the glossary."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
CODE = ("model", "scripts", "backend")
EARLIER = re.compile(r"^.*# as in files of earlier versions$", re.MULTILINE)
FILES = sorted(path for folder in CODE for path in (REPOSITORY / folder).rglob("*.py"))
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
INSTEAD = {
    r"doubt\w*": "uncertainty",
    r"sure(ness|r|st)?": "confident, confidence",
    r"twins?": "near-duplicates",
    r"crowd(s|ed|ing)?": "class imbalance",
    r"judg\w*": "predict",
    r"opinions?": "prediction",
    r"guess\w*": "pseudo-label, predicted class",
    r"settl\w*": "resolve",
    r"disput\w*": "disagreement",
}
RIDDLE = re.compile(r"(What|Whether|Which|Who|Whose)\b")


def docstrings(path: Path) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


@pytest.mark.parametrize("path", [*FILES, *PAGES], ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_words_are_those_of_the_glossary(path: Path) -> None:
    text = EARLIER.sub("", path.read_text()).replace("_", " ")
    found = {
        match[0]: word for wrong, word in INSTEAD.items() for match in re.finditer(rf"(?i)\b{wrong}\b", text)
    }
    assert found == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_docstring_says_a_thing_and_does_not_ask_for_it(path: Path) -> None:
    assert [text.split("\n")[0] for text in docstrings(path) if RIDDLE.match(text)] == []
