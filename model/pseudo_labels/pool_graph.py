"""The pool as a graph of nearest neighbours, over which labels spread to the crops nobody has labelled."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from everylabel.model.pool import Rows, chunks, sample
from everylabel.model.vectors import project, unit_rows

if TYPE_CHECKING:
    from typing_extensions import Self

NEIGHBOURS = 10
PROJECTED = 128
# Enough to compare two heads out of fold; the head itself is trained on all dimensions.
CHECK_DIM = 256


class PoolGraph:
    """Crops joined to their ten nearest by cosine, weighted by closeness, normalised by degree.

    `rows`: (m,) pool indices in the graph, ascending. A large pool is represented by a sample, so the cost
    depends on `at_most` alone: about 0.1 s for 2,000 crops on one core.
    """

    def __init__(self, rows: NDArray[Any], features: NDArray[Any], matrix: Any) -> None:
        self.rows = rows
        self.features = features
        self._matrix = matrix

    @cached_property
    def reduced(self) -> NDArray[Any]:
        """The features in fewer dimensions: (m, CHECK_DIM), or as many as there are."""
        return project(self.features, CHECK_DIM)

    @classmethod
    def build(
        cls,
        features: Rows,
        keep: Iterable[int],
        others: NDArray[Any],
        *,
        at_most: int = 2000,
        seed: int = 0,
        known: Self | None = None,
    ) -> Self | None:
        """Join the crops in `keep` and as many of `others`, sampled uniformly, as there is room for.

        Args:
            features: (n, d) rows of length 1, read for these crops only.
            keep: crops that must be in the graph.
            others: crops that may be, ascending.
            at_most: how many crops the graph has room for.
            seed: picks among `others`.
            known: a graph of the same pool, which is returned where it has just these crops.

        Returns:
            None where `keep` alone is more than `at_most`, or there are not enough crops to have neighbours.
        """
        kept = np.unique(np.fromiter(keep, dtype=np.intp))
        others = others[~np.isin(others, kept)]
        room = at_most - len(kept)
        if room < 0:
            return None
        if len(others) > room:
            others = sample(others, room, np.random.default_rng(seed))
        rows = np.sort(np.concatenate([kept, others])).astype(np.intp)
        if len(rows) <= 2 * NEIGHBOURS:
            return None
        if known is not None and np.array_equal(known.rows, rows):
            return known
        inside = np.asarray(features[rows], dtype=np.float32)
        return cls(rows, inside, _joined(inside))

    def positions(self, indices: Iterable[int]) -> NDArray[Any]:
        """Return where pool indices stand in `rows`; each must be in the graph."""
        return np.searchsorted(self.rows, np.fromiter(indices, dtype=np.intp))

    def propagate(self, seeds: NDArray[Any], *, alpha: float = 0.95, steps: int = 25) -> NDArray[Any]:
        """Spread (m, c) seeds over the graph (Zhou et al. 2003, "Learning with local and global consistency")."""
        start = seeds.astype(np.float32)
        spread = start
        for _ in range(steps):
            spread = alpha * (self._matrix @ spread) + (1 - alpha) * start
        return np.asarray(spread)

    def smoothed(self, positions: NDArray[Any]) -> NDArray[Any]:
        """Average the features of a few crops with those of their neighbours and theirs: (p, d), of length 1."""
        chosen = sparse.csr_matrix(
            (np.ones(len(positions), dtype=np.float32), (np.arange(len(positions)), positions)),
            shape=(len(positions), len(self.rows)),
        )
        # Two steps of a walk that stays where it is half of the time.
        for _ in range(2):
            chosen = 0.5 * chosen + 0.5 * (chosen @ self._matrix)
        return unit_rows(chosen @ self.features)


def _joined(features: NDArray[Any]) -> Any:
    n = len(features)
    short = unit_rows(project(features, PROJECTED))
    nearest = np.empty((n, NEIGHBOURS), dtype=np.intp)
    closeness = np.empty((n, NEIGHBOURS), dtype=np.float32)
    for rows in chunks(n):
        similarity = short[rows] @ short.T
        similarity[np.arange(len(similarity)), np.arange(rows.start, rows.stop)] = -np.inf
        found = np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        nearest[rows], closeness[rows] = found, np.take_along_axis(similarity, found, axis=1)
    squared = np.maximum(2 - 2 * closeness, 0)
    width = max(float(np.median(squared.max(axis=1))), 1e-12)
    ends = np.arange(0, n * NEIGHBOURS + 1, NEIGHBOURS)
    weights = sparse.csr_matrix((np.exp(-squared / width).ravel(), nearest.ravel(), ends), shape=(n, n))
    weights = weights + weights.T
    root = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(weights.sum(axis=1)).ravel(), 1e-12)))
    return (root @ weights @ root).tocsr().astype(np.float32)
