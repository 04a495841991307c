"""The mark that Label Studio keeps on an annotation accepted in bulk: how it is written and how it is read.

Label Studio 1.23.2 keeps a region's `origin` and `meta`, and shows the `meta` text to an annotator who opens the task.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from everylabel.backend.label_studio.publisher import version_name

MADE_AT_ONCE_SECONDS = 1.0
"""Label Studio stamps a new annotation's two times within microseconds; whoever edits it takes longer."""

_VERSION = re.compile(r"accepted, (?:round|certificate) \d+")
_MARK = re.compile(rf"({_VERSION.pattern}): in bulk by everylabel, (?:confidence )?(\d+\.?\d*)?")


@dataclass(frozen=True)
class AcceptanceMark:
    """The mark on an annotation, as it is read."""

    round: int | None
    """The round whose model it was accepted with, where no certificate covers it."""
    certificate: int | None
    confidence: float | None
    """How confident the model was, 0 to 1."""


def accepted_version(round_number: int) -> str:
    """Return the model version under which Label Studio shows this round's confident predictions."""
    return f"accepted, {version_name(round_number)}"


def certified_version(number: int) -> str:
    """Return the model version under which Label Studio shows the crops that a certificate accepted."""
    return f"accepted, certificate {number}"


def is_accepted_version(name: str) -> bool:
    """Return whether a model version is one of those that `accepted_version` and `certified_version` make."""
    return _VERSION.fullmatch(name) is not None


def marked(region: Mapping[str, Any], version: str, confidence: float) -> dict[str, Any]:
    """Return a region of a result with the mark on it."""
    text = f"{version}: in bulk by everylabel, confidence {confidence:.1%}"
    return {**region, "origin": "prediction", "meta": {"text": [text]}}


def is_accepted(annotation: Mapping[str, Any]) -> bool:
    """Return whether an annotation was accepted in bulk and nobody has edited it since.

    Label Studio's form changes the origin of what an annotator edits to `prediction-changed` and keeps `meta`; its
    API keeps both, so the times count too.

    Args:
        annotation: as Label Studio holds it.
    """
    result = annotation.get("result")
    if not marked_versions(result) or not isinstance(result, list):
        return False
    if any(isinstance(region, Mapping) and region.get("origin") != "prediction" for region in result):
        return False
    created, updated = _time(annotation.get("created_at")), _time(annotation.get("updated_at"))
    return (
        created is not None
        and updated is not None
        and abs((updated - created).total_seconds()) < MADE_AT_ONCE_SECONDS
    )


def marked_versions(result: object) -> set[str]:
    """Return the versions under which parts of a result were accepted; empty where none was."""
    return {found.group(1) for found in _marks(result)}


def read_mark(result: object) -> AcceptanceMark | None:
    """Return what the mark on a result says; None where it has none."""
    for found in _marks(result):
        kind, number = found.group(1).removeprefix("accepted, ").split()
        confidence = float(found.group(2)) / 100 if found.group(2) else None
        if kind == "certificate":
            return AcceptanceMark(None, int(number), confidence)
        return AcceptanceMark(int(number), None, confidence)
    return None


def _marks(result: object) -> Iterable[re.Match[str]]:
    texts: Iterable[object] = (
        text
        for region in (result if isinstance(result, list) else [])
        if isinstance(region, Mapping) and isinstance(region.get("meta"), Mapping)
        for text in _list(region["meta"].get("text"))
    )
    return (found for text in texts if isinstance(text, str) and (found := _MARK.match(text)))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
