"""Several classes on one crop, written as one label: `crack + dirt`.

A set of classes is a label like any other to most of the code; only the classifier
(`model/classifiers/multi_label.py`) and Label Studio's two ends (what a person ticked, what is pre-filled) take
it apart.
"""

from __future__ import annotations

from collections.abc import Iterable

SEPARATOR = " + "


def join(names: Iterable[str]) -> str:
    """Return one label for a set of class names, the same in whatever order they come."""
    return SEPARATOR.join(sorted(set(names)))


def split(label: str) -> tuple[str, ...]:
    """Return the class names of a label, sorted."""
    return tuple(label.split(SEPARATOR))
