"""The machine labels that a certificate is about, in a file: there may be a million."""

from __future__ import annotations

import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.store.atomic_write import taking_its_place

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrozenLabels:
    """The machine's label of each crop when the certificate began, stratum by stratum, and random within each."""

    tasks: NDArray[Any]
    """(n,) int64."""
    labels: NDArray[Any]
    """(n,) int, positions in `names`."""
    confidences: NDArray[Any]
    """(n,) float32, 0 to 1."""
    names: tuple[str, ...]
    """The labels that the model knows."""

    def label(self, position: int) -> str:
        """Return the label of one crop."""
        return self.names[int(self.labels[position])]


def save(folder: Path, number: int, frozen: FrozenLabels) -> None:
    """Write the labels of a certificate atomically, as arrays and never as a pickle."""
    path = _path(folder, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    with taking_its_place(path) as unfinished, unfinished.open("wb") as file:
        np.savez(
            file,
            tasks=frozen.tasks,
            labels=frozen.labels,
            confidences=frozen.confidences,
            names=np.asarray(frozen.names, dtype=str),
        )


def load(folder: Path, number: int) -> FrozenLabels | None:
    """Return the labels of a certificate; None if their file is missing or damaged."""
    path = _path(folder, number)
    try:
        with np.load(path, allow_pickle=False) as held:
            names = tuple(held["names"].tolist())
            return FrozenLabels(held["tasks"], held["labels"], held["confidences"], names)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s cannot be read (%s)", path, error)
        return None


def _path(folder: Path, number: int) -> Path:
    return folder / "certificates" / f"{number}.npz"
