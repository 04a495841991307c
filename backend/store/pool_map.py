"""The map of a project's pool in a file beside the store, and when to draw it again."""

from __future__ import annotations

import logging
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from everylabel.model.pool import Rows, spread
from everylabel.model.visualization.near_duplicates import NearDuplicates, find_near_duplicates
from everylabel.model.visualization.projection import (
    SAMPLE,
    align,
    flat_layout,
    lay_out,
    place,
    principal_components,
)

log = logging.getLogger(__name__)

GROWTH = 1.5
"""A pool this many times what it was when laid out is laid out anew; until then, new crops are placed."""
_FILE = "pool-map.npz"
_PAIRS, _SIMILARITY = "twins", "twin_similarity"  # as in files of earlier versions


@dataclass(frozen=True)
class PoolMap:
    """The position of each crop of the pool on the map, and its near-duplicates."""

    embeddings: str
    """The embedding file that was drawn."""
    laid_out: int
    """How many crops the layout was made for; 0 while it is the first two principal components."""
    positions: NDArray[Any]
    """(n, 2) float32 by row of the embedding file, NaN where a row is not on the map."""
    near_duplicates: NDArray[Any]
    """(m, 2) rows of crops that hardly differ, the most alike first."""
    near_duplicate_similarity: NDArray[Any]

    def shows(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return which of these rows are on the map, (len(rows),) bool."""
        known = np.zeros(len(rows), dtype=bool)
        inside = rows < len(self.positions)
        known[inside] = ~np.isnan(self.positions[rows[inside], 0])
        return known


def drawn_at(folder: Path) -> int | None:
    """Return when the map was drawn, in nanoseconds; None before the first."""
    try:
        return (folder / _FILE).stat().st_mtime_ns
    except FileNotFoundError:
        return None


def load(folder: Path) -> PoolMap | None:
    """Load the map as last drawn; None before the first, or if the file is damaged."""
    try:
        with np.load(folder / _FILE, allow_pickle=False) as archive:
            return PoolMap(
                embeddings=archive["embeddings"].tobytes().decode(),
                laid_out=int(archive["laid_out"]),
                positions=archive["positions"],
                near_duplicates=archive[_PAIRS],
                near_duplicate_similarity=archive[_SIMILARITY],
            )
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        # It is drawn again.
        log.error("%s cannot be read (%s: %s)", folder / _FILE, type(error).__name__, error)
        return None


def forget(folder: Path) -> None:
    """Delete a map, because its rows are no longer those in use."""
    (folder / _FILE).unlink(missing_ok=True)


def is_due(pool_map: PoolMap | None, embeddings: str, rows: NDArray[Any]) -> bool:
    """Return whether the map lacks any of these rows, or a final layout."""
    if pool_map is None or pool_map.embeddings != embeddings or not pool_map.laid_out:
        return len(rows) > 0
    return not pool_map.shows(rows).all()


def draw(folder: Path, embeddings: str, pool: Rows, rows: NDArray[Any]) -> None:
    """Draw the map anew as far as needed; crops that are on it keep their place.

    One process at a time draws a project's map: the drawing that a killed trainer has left behind goes on for
    minutes, and the next trainer starts its own.

    Args:
        folder: the project's.
        embeddings: the embedding file's name.
        pool: its rows.
        rows: those that are crops of a task.
    """
    with FileLock(folder / "map.lock"):
        _draw(folder, embeddings, pool, rows)


def _draw(folder: Path, embeddings: str, pool: Rows, rows: NDArray[Any]) -> None:
    pool_map = load(folder)
    if pool_map is not None and (pool_map.embeddings != embeddings or not pool_map.laid_out):
        pool_map = None
    components = principal_components(pool, rows)

    def keep(laid_out: int, positions: NDArray[Any], duplicates: NearDuplicates) -> None:
        by_row = np.full((len(pool), 2), np.nan, dtype=np.float32)
        by_row[rows] = positions
        save(folder, PoolMap(embeddings, laid_out, by_row, duplicates.pairs, duplicates.similarity))

    before = None
    if pool_map is not None:
        known = pool_map.shows(rows)
        before = np.full((len(rows), 2), np.nan, dtype=np.float32)
        before[known] = pool_map.positions[rows[known]]
        sample = np.flatnonzero(known)[spread(int(known.sum()), SAMPLE)]
        positions = before.copy()
        positions[~known] = place(components[sample], before[sample], components[~known])
        duplicates = find_near_duplicates(components, rows)
        keep(pool_map.laid_out, positions, duplicates)
        if known.any() and len(rows) < GROWTH * pool_map.laid_out:
            return
    else:
        # At once, so that the page has something to show.
        keep(0, flat_layout(components), NearDuplicates.none())
        duplicates = find_near_duplicates(components, rows)
    sample = spread(len(rows), SAMPLE)
    laid_out = lay_out(components[sample], None if before is None else before[sample])
    if before is not None:
        laid_out = align(laid_out, before[sample])
    placed = place(components[sample], laid_out, components)
    placed[sample] = laid_out
    keep(len(rows), placed, duplicates)


def save(folder: Path, pool_map: PoolMap) -> None:
    """Write a map atomically, over the partial file of a killed drawing."""
    duplicates: dict[str, Any] = {
        _PAIRS: pool_map.near_duplicates,
        _SIMILARITY: pool_map.near_duplicate_similarity,
    }
    partial = folder / f"{_FILE}.partial"
    with partial.open("wb") as file:
        np.savez(
            file,
            embeddings=np.frombuffer(pool_map.embeddings.encode(), np.uint8),
            laid_out=np.int64(pool_map.laid_out),
            positions=pool_map.positions,
            **duplicates,
        )
    partial.replace(folder / _FILE)
