"""The model that a project began with: its arrays in a file of the project's folder, and never as a pickle."""

from __future__ import annotations

import json
import logging
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.store.atomic_write import taking_its_place

log = logging.getLogger(__name__)

_FOLDER = "earlier"


@dataclass(frozen=True)
class EarlierModel:
    """The model that a project began with, as the store knows it; its arrays are in a file of that digest."""

    file: str
    """The name of the file it was read from."""
    digest: str
    """The SHA-256 of that file."""
    encoder: str
    """The signature of the encoder whose rows it reads."""
    kind: str
    """The class of the classifier."""
    classes: tuple[str, ...]
    """All single classes that it knows."""
    origin: dict[str, Any]
    """What the file said of the project and the labels it comes from."""

    def stored(self) -> str:
        """Return it as a column of the project holds it."""
        return json.dumps(asdict(self), ensure_ascii=False)


def stored_model(column: str | None) -> EarlierModel | None:
    """Read a column of the project; None if it is empty."""
    if not column:
        return None
    found = json.loads(column)
    return EarlierModel(
        file=found["file"],
        digest=found["digest"],
        encoder=found["encoder"],
        kind=found["kind"],
        classes=tuple(found["classes"]),
        origin=found["origin"],
    )


def save(folder: Path, digest: str, state: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays atomically."""
    path = _path(folder, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = dict(state)
    with taking_its_place(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())


def load(folder: Path, digest: str) -> dict[str, NDArray[Any]] | None:
    """Return the arrays; None if their file is missing or damaged."""
    path = _path(folder, digest)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        log.error("%s cannot be read as a model (%s: %s)", path, type(error).__name__, error)
        return None


def keep(folder: Path, digest: str | None) -> None:
    """Delete the arrays of all other earlier models, and what a kill has left of them."""
    for path in (folder / _FOLDER).glob("*"):
        if path.name != f"{digest}.npz":
            path.unlink(missing_ok=True)


def _path(folder: Path, digest: str) -> Path:
    return folder / _FOLDER / f"{digest}.npz"
