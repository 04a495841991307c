"""The folder of a data set: what is in it already, and what must not be written over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from everylabel.backend.dataset import manifest

ABOUT = "dataset.json"
"""The file that says what a data set is; without it a folder is none."""
FORMAT = "everylabel data set 1"
WITHOUT_CROPS = {ABOUT, "README.md", manifest.CSV, manifest.PARQUET, "train.jsonl", "test.jsonl"}
"""The files of a data set without its crops."""


class DatasetError(RuntimeError):
    """A data set cannot be written or read; the message says what to do."""


def check_folder(folder: Path, *, replace: bool) -> None:
    """Refuse a folder that a data set must not be written into, before any work is done.

    Raises:
        DatasetError: It holds something else than a data set, or is none.
    """
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder} is a file. Name a new folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ABOUT).exists():
        raise DatasetError(
            f"{folder} holds something else than a data set, which is {'not replaced' if replace else 'left as it is'}. "
            "Name a new folder."
        )


def read_about(folder: Path) -> dict[str, Any]:
    """Return what a data set says about itself.

    Raises:
        DatasetError: The folder is not a data set.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{folder} is not a data set of everylabel: it has no {ABOUT} that can be read."
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise DatasetError(
            f"{folder / ABOUT} is of another version of everylabel. Export the data set again."
        )
    return about


def lacks_only_crops(folder: Path, about: Mapping[str, Any]) -> bool:
    """Return whether a folder holds the data set that is asked for without its crops, and nothing else.

    Args:
        folder: A folder with a data set.
        about: The one that is asked for.

    Raises:
        DatasetError: The folder is not a data set.
    """
    held = read_about(folder)
    return (
        _difference(held, about) is None
        and (held.get("copied"), about["copied"]) == (False, True)
        and {path.name for path in folder.iterdir()} <= WITHOUT_CROPS
    )


def require_same(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Check that a folder holds the data set that is asked for.

    Args:
        folder: A folder with a data set.
        about: The one that is asked for.

    Returns:
        What the data set in the folder says about itself.

    Raises:
        DatasetError: It holds another one, or the same with or without the crops.
    """
    held = read_about(folder)
    difference = _difference(held, about)
    if difference is None and about["copied"] != held.get("copied"):
        difference = (
            "the same labels without the crops, and files of yours"
            if about["copied"]
            else "the same labels with the crops (--copy)"
        )
    if difference is None:
        return held
    raise DatasetError(
        f"{folder} holds the data set {held.get('name')} of {held.get('made_at')}, {difference}. Name a new folder (and "
        "compare them: everylabel dataset diff), or put the new one in its place with --replace."
    )


def _difference(held: Mapping[str, Any], about: Mapping[str, Any]) -> str | None:
    """Return how the data set in a folder differs from the one that is asked for, apart from the crops' files."""
    if any(held.get(name) != about[name] for name in ("project", "project_created_at")):
        return f"which is of another project: {held.get('title')} (project {held.get('project')})"
    if held.get("digest") != about["digest"]:
        return f"and the labels are {about['name']} now"
    if held.get("labels") != about["labels"]:
        return f"the same labels, asked for with --labels {held.get('labels')}"
    return None
