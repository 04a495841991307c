"""The folder of a data set: what is in it already, and what must not be written over."""

from __future__ import annotations

import csv
import hashlib
import json
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from everylabel.backend.dataset import manifest
from everylabel.backend.dataset.coco import pictures_in
from everylabel.backend.dataset.labelled_crops import TEST, TRAIN

ABOUT = "dataset.json"
"""The file that says what a data set is; without it a folder is none."""
FORMAT = "everylabel data set 1"
SPLITS = (TRAIN, TEST)
COCO = "coco"
DIGESTS = "files"
"""The entry of `ABOUT` with a digest of each of the data set's files but the crops'."""
_TEXT_FILES = ("README.md", manifest.CSV, manifest.PARQUET, *(f"{split}.jsonl" for split in SPLITS))
_OF_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""Files that a file manager puts into a folder that somebody opens."""
NAMED = 3
"""How many files a refusal names."""


class DatasetError(RuntimeError):
    """A data set cannot be written or read; the message says what to do."""


def check_folder(folder: Path, *, replace: bool) -> None:
    """Refuse a folder that a data set must not be written into, before any work is done.

    Args:
        folder: The folder.
        replace: An older data set in it is to be replaced, which deletes its files.

    Raises:
        DatasetError: It holds something else than a data set, or is none; or files beside the data set that would be
            deleted with it.
    """
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder} is a file. Name a new folder.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / ABOUT).exists():
        raise DatasetError(
            f"{folder} holds something else than a data set, which is {'not replaced' if replace else 'left as it is'}. "
            "Name a new folder."
        )
    if replace and (found := foreign_files(folder)):
        raise DatasetError(
            f"{folder} holds files that are not the data set's own, and would be deleted with it: {_named(found)}. "
            "Move them out first, or name a new folder."
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


def add_digests(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a data set says about itself with the digests by which `edited_files` finds what has changed since.

    Args:
        folder: A folder with every other file of the data set.
        about: What it says.
    """
    written = (name for name in _TEXT_FILES if (folder / name).is_file())
    digests = {name: _file_digest(folder / name) for name in written}
    return {**about, DIGESTS: {**digests, ABOUT: _about_digest(about)}}


def edited_files(folder: Path, about: Mapping[str, Any]) -> list[str] | None:
    """Return the files of a data set, apart from the crops, that are no longer as they were written.

    Args:
        folder: A folder with a data set.
        about: What it says about itself.

    Returns:
        Their names; None if an earlier version wrote it, which noted no digests.
    """
    digests = about.get(DIGESTS)
    if not isinstance(digests, dict):
        return None
    now = add_digests(folder, {name: value for name, value in about.items() if name != DIGESTS})[DIGESTS]
    return sorted(name for name in {*now, *digests} if now.get(name) != digests.get(name))


def foreign_files(folder: Path) -> list[str]:
    """Return the files in the folder of a data set that everylabel has not written, by their paths within it."""
    own = {unicodedata.normalize("NFC", name) for name in _own_files(folder)}
    found = (
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if (path.is_symlink() or not path.is_dir()) and path.name not in _OF_SYSTEMS
    )
    return sorted(name for name in found if unicodedata.normalize("NFC", name) not in own)


def find_same(folder: Path, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Look for the data set that is asked for in a folder with a data set.

    Args:
        folder: The folder.
        about: The one that is asked for.

    Returns:
        What the data set in the folder says about itself; None if only the crops are missing, and the folder may be
        written anew with them.

    Raises:
        DatasetError: It holds another one, or the same with the crops; or the crops are missing, and files would be lost
            if the folder were written anew.
    """
    held = read_about(folder)
    difference = _difference(held, about)
    if difference is None and about["copied"] == bool(held.get("copied") and held.get("kind") != "text"):
        return held
    is_held = f"{folder} holds the data set {held.get('name')} of {held.get('made_at')}"
    if difference is None and about["copied"]:
        if found := foreign_files(folder):
            raise DatasetError(
                f"{is_held} without the crops, and files that are not its own: {_named(found)}. Move them out first, or "
                "name a new folder."
            )
        edited = edited_files(folder, held)
        if edited == []:
            return None
        difference = "the same labels without the crops, " + (
            "written by an earlier version, so that nobody can tell whether you have edited it"
            if edited is None
            else f"edited since: {_named(edited)}"
        )
    raise DatasetError(
        f"{is_held}, {difference or 'the same labels with the crops (--copy)'}. Name a new folder (and compare them: "
        "everylabel dataset diff), or put the new one in its place with --replace."
    )


def _difference(held: Mapping[str, Any], about: Mapping[str, Any]) -> str | None:
    """Return how the data set in a folder differs from the one that is asked for, apart from the crops' files."""
    if any(held.get(name) != about[name] for name in ("project", "project_created_at")):
        return f"which is of another project: {held.get('title')} (project {held.get('project')})"
    if held.get("digest") != about["digest"]:
        return f"and the project's labels have changed since ({about['name']})"
    if held.get("labels") != about["labels"]:
        return f"the same labels, asked for with --labels {held.get('labels')}"
    if held.get("names", about["names"]) != about["names"]:
        return f"the same labels, asked for {'without' if about['names'] else 'with'} --names"
    return None


def _own_files(folder: Path) -> Iterator[str]:
    """Yield the files that a data set consists of, by their paths within its folder."""
    yield from (ABOUT, *_TEXT_FILES)
    try:
        if not read_about(folder).get("copied"):
            return
        paths = [row.get("path") or "" for row in manifest.read(folder)]
    except (DatasetError, OSError, ValueError, csv.Error):
        return
    yield from (path for path in paths if path.startswith(tuple(f"{split}/" for split in SPLITS)))
    for split in SPLITS:
        yield from (f"{split}/metadata.csv", f"{split}/metadata.jsonl", f"{COCO}/{split}.json")
        yield from (f"{COCO}/{name}" for name in pictures_in(folder / COCO / f"{split}.json"))


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _about_digest(about: Mapping[str, Any]) -> str:
    as_read = json.loads(json.dumps(about))  # its numbers as keys are texts then
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def _named(files: Collection[str]) -> str:
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return ", ".join(islice(files, NAMED)) + more
