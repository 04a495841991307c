"""The pool as a map: embeddings in two dimensions, alike crops close together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes

from everylabel.model.pool import Rows, chunks, each_chunk, gather, spread
from everylabel.model.vectors import unit_rows

COMPONENTS = 50
WIDE = 2048
"""Rows of more dimensions are seen from fewer of them."""
WIDE_SAMPLE = 1_000
SAMPLE = 10_000
"""Crops that are laid out themselves; all others are placed beside those they resemble."""
NEAREST = 5


def principal_components(rows: Rows, keep: NDArray[Any]) -> NDArray[Any]:
    """Return the rows `keep` (ascending) from the pool's centre along its 50 widest directions.

    Directions come from at most 10,000 of them, of rows wider than 2,048 from at most 1,000, and their signs are
    fixed: the same pool, the same picture.

    Returns:
        (len(keep), at most 50) float32.
    """
    if not len(keep):
        return np.zeros((0, 2), np.float32)
    most = SAMPLE if rows.shape[1] <= WIDE else WIDE_SAMPLE
    sampled = np.asarray(gather(rows, keep[spread(len(keep), most)]), dtype=np.float32)
    sampled = unit_rows(sampled)
    centre = sampled.mean(axis=0)
    sampled = sampled - centre
    vectors = _widest_directions(sampled)
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    found = np.empty((len(keep), vectors.shape[1]), dtype=np.float32)
    middle = centre @ vectors

    def project_chunk(part: slice, chunk: NDArray[Any]) -> None:
        first, last = np.searchsorted(keep, (part.start, part.stop))
        found[first:last] = unit_rows(chunk[keep[first:last] - part.start]) @ vectors - middle

    each_chunk(rows, project_chunk)
    return found


def _widest_directions(centred: NDArray[Any]) -> NDArray[Any]:
    """Return the (d, at most 50) directions in which (n, d) rows spread most, the widest first.

    Of fewer rows than dimensions, by way of the (n, n) products of the rows: pixels have 12,288 dimensions, and the
    eigenvectors of so large a matrix take gigabytes and hours.
    """
    n, dim = centred.shape
    if n >= dim:
        return np.asarray(np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :COMPONENTS])
    squares, of_rows = np.linalg.eigh(centred @ centred.T)
    squares, of_rows = squares[::-1][:COMPONENTS], of_rows[:, ::-1][:, :COMPONENTS]
    real = squares > squares[0] * n * np.finfo(squares.dtype).eps
    lengths = np.where(real, np.sqrt(np.maximum(squares, 0)), np.inf)  # no rows spread in the others
    return np.asarray((centred.T @ of_rows) / lengths)


def lay_out(
    components: NDArray[Any], before: NDArray[Any] | None = None, *, seed: int = 0, jobs: int = 1
) -> NDArray[Any]:
    """Lay (n, d) principal components out in the plane by t-SNE: (n, 2) float32.

    van der Maaten and Hinton 2008, "Visualizing data using t-SNE", from a PCA start (Kobak and Berens 2019).
    `before`: (n, 2) positions to start from instead, NaN where a row has none; an embedding that starts from
    another one keeps its shape. Fewer than ten rows stay where PCA puts them.
    """
    n = len(components)
    flat = flat_layout(components)
    if n < 10:
        return flat
    from openTSNE import TSNE  # noqa: PLC0415 - takes a second, and only the drawing needs it

    start = flat / max(float(flat[:, 0].std()), 1e-12) * 1e-4
    if before is not None:
        known = ~np.isnan(before).any(axis=1)
        start = place(components[known], before[known], components)
        start[known] = before[known]
        start = start / max(float(start[:, 0].std()), 1e-12) * 1e-4
    tsne = TSNE(
        perplexity=min(30.0, (n - 1) / 3),
        initialization=start.astype(np.float64),
        n_jobs=jobs,
        random_state=seed,
        # Not shaken up again where it starts from the map people know.
        early_exaggeration_iter=250 if before is None else 50,
        n_iter=500 if before is None else 250,
    )
    return np.asarray(tsne.fit(components), dtype=np.float32)


def align(positions: NDArray[Any], before: NDArray[Any]) -> NDArray[Any]:
    """Turn, mirror and move a layout so that the crops people know lie where they lay.

    Neither t-SNE nor the principal components care which way is up. The orthogonal Procrustes problem (Schönemann
    1966) has the answer; distances stay as they are.

    Args:
        positions: (n, 2) the new layout.
        before: (n, 2) the former one, NaN where a crop is new.

    Returns:
        (n, 2) float32; as it was, where fewer than three crops are known.
    """
    known = ~np.isnan(before).any(axis=1)
    if known.sum() < 3:
        return positions
    there, here = before[known].astype(np.float64), positions[known].astype(np.float64)
    rotation, _ = orthogonal_procrustes(here - here.mean(axis=0), there - there.mean(axis=0))
    return np.asarray((positions - here.mean(axis=0)) @ rotation + there.mean(axis=0), dtype=np.float32)


def flat_layout(components: NDArray[Any]) -> NDArray[Any]:
    """Return the first two principal components, at once: (n, 2) float32."""
    flat = np.zeros((len(components), 2), dtype=np.float32)
    shown = min(2, components.shape[1])
    flat[:, :shown] = components[:, :shown]
    return flat


def place(known: NDArray[Any], positions: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """Put `new` (m, d) components beside those of `known` (n, d) they resemble most: (m, 2) float32.

    The median of the five nearest: one that lies elsewhere does not pull a crop into the void between.
    """
    placed = np.zeros((len(new), 2), dtype=np.float32)
    if not len(known):
        return placed
    squares = (known**2).sum(axis=1)
    nearest = min(NEAREST, len(known))
    for part in chunks(len(new), 256):
        distance = squares - 2 * (new[part] @ known.T)
        rows = np.argpartition(distance, nearest - 1, axis=1)[:, :nearest]
        placed[part] = np.median(positions[rows], axis=1)
    return placed
