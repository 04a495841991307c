"""Near-duplicates: pairs of crops that hardly differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.pool import chunks
from everylabel.model.vectors import unit_rows

ALL_COMPARED = 10_000
"""Crops up to which each is compared with every other."""
PAIRS = 1 << 16
"""Pairs that are compared together."""
MOST_PAIRS = 200
LEAST_SIMILARITY = 0.95
"""Cosine of two crops' centred embeddings from which they are called near-duplicates."""


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of crops that hardly differ, the most alike first."""

    pairs: NDArray[Any]
    """(m, 2) rows of the pool, the lower first."""
    similarity: NDArray[Any]
    """(m,) cosine of their centred embeddings."""

    @classmethod
    def none(cls) -> NearDuplicates:
        """Return no pair at all."""
        return cls(np.zeros((0, 2), dtype=np.intp), np.zeros(0, dtype=np.float32))


def find_near_duplicates(components: NDArray[Any], keep: NDArray[Any]) -> NearDuplicates:
    """Find the pairs of crops that hardly differ.

    In a pool of more than 10,000, crops are compared with their neighbours along each of 16 directions: of
    two that hardly differ next to none are missed, and the cost stays in proportion to the pool. Only the most
    alike are kept: of a camera's pictures millions of pairs may be.

    Args:
        components: (n, d) principal components of the crops.
        keep: (n,) which row of the pool each crop is.
    """
    found = NearDuplicates.none()
    for pairs, similarity in (_all_pairs if len(keep) <= ALL_COMPARED else _neighbouring_pairs)(components):
        found = _most_alike(found, pairs, similarity)
    return NearDuplicates(np.sort(keep[found.pairs], axis=1), found.similarity)


def _most_alike(known: NearDuplicates, pairs: NDArray[Any], similarity: NDArray[Any]) -> NearDuplicates:
    """Return the most alike of the pairs known and of some more, those that come twice counted once."""
    alike = np.flatnonzero(similarity >= LEAST_SIMILARITY)
    alike = alike[np.argsort(-similarity[alike], kind="stable")[:MOST_PAIRS]]
    if not len(alike):
        return known
    pairs = np.concatenate([known.pairs, np.sort(pairs[alike], axis=1)])
    pairs, places = np.unique(pairs, axis=0, return_index=True)
    similarity = np.concatenate([known.similarity, similarity[alike]])[places]
    order = np.argsort(-similarity, kind="stable")[:MOST_PAIRS]
    return NearDuplicates(pairs[order], similarity[order].astype(np.float32))


def _all_pairs(components: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    unit = unit_rows(components)
    for part in chunks(len(unit), 256):
        cosines = np.tril(unit[part] @ unit.T, part.start - 1)
        first, second = np.nonzero(cosines >= LEAST_SIMILARITY)
        yield np.stack([first + part.start, second], axis=1), cosines[first, second]


def _neighbouring_pairs(
    components: NDArray[Any], window: int = 6
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    length = np.maximum(np.linalg.norm(components, axis=1), 1e-12)
    for direction in range(min(16, components.shape[1])):
        order = np.argsort(components[:, direction] / length, kind="stable")
        for step in range(1, window + 1):
            for part in chunks(len(order) - step, PAIRS):
                first, second = order[part], order[part.start + step : part.stop + step]
                cosines = np.einsum("ij,ij->i", components[first], components[second])
                yield np.stack([first, second], axis=1), cosines / (length[first] * length[second])
