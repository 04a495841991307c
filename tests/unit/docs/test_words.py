"""One word a thing, and it is the field's: the learning core and its pages keep to the glossary."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
FILES = sorted((REPOSITORY / "model").rglob("*.py")) + [
    REPOSITORY / "docs" / name for name in ("learning.md", "learning-parts.md", "extending.md")
]
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_words_are_those_of_the_glossary(path: Path) -> None:
    text = path.read_text().replace("_", " ")
    found = {
        match[0]: word for wrong, word in INSTEAD.items() for match in re.finditer(rf"(?i)\b{wrong}\b", text)
    }
    assert found == {}
