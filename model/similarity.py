"""The crops of a pool that are most like one crop, or like words: the way to a rare class, and from its first example to the others.

Of 24 shown, plain cosine finds 13 of a class that 4 % of the crops are of, on average over digits, animals and solar cells
(`python -m everylabel.scripts.benchmarks.measure_similarity digits animals solar-cells --seeds 1 --limit 2500`): 19, 18
and 3. Whitening the embeddings, or an exemplar's discriminant (exemplar-LDA, Hariharan, Malik and Ramanan 2012), found
no more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.classifiers.embedding_space import EmbeddingSpace
from everylabel.model.pool import Rows, gather, spread
from everylabel.model.vectors import unit_rows

COMPONENTS = 32
"""Numbers that a sketch keeps of each crop: 128 MB for a million."""
SAMPLE = 4000
"""Crops that the directions of a sketch are found on."""
SHORTLIST = 2048
"""Crops that are compared exactly, of those that a sketch finds most similar."""
SHORTLIST_OF_WORDS = 4 * SHORTLIST
"""The same for a row that is no crop's: it may lie along directions in which the pool spreads little, and the sketch sees less of it."""
BELOW = 4.0
"""So far below every cosine lies what only the sketch has compared."""


class Sketch:
    """The position of each crop of a large pool along its 32 widest directions: enough to find those worth comparing.

    Comparing a crop with a million others reads all their embeddings, 4 GB; the sketch is a thirtieth.

    Args:
        space: compares embeddings; it has a centre.
        directions: (d, k) float32, of length 1.
        positions: (n, k) float32.
    """

    def __init__(self, space: EmbeddingSpace, directions: NDArray[Any], positions: NDArray[Any]) -> None:
        self._space = space
        self._directions = directions
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    @classmethod
    def of(cls, pool: Rows, space: EmbeddingSpace | None = None) -> Sketch:
        """Make the sketch of a pool: (n, d) embeddings, read in chunks. Its space is as in `similarity_to`."""
        from sklearn.utils.extmath import randomized_svd  # noqa: PLC0415 - takes long to load

        space = _adapted(pool, space)
        sample = space.features(gather(pool, spread(len(pool), SAMPLE)))
        found = randomized_svd(sample, min(COMPONENTS, *sample.shape), random_state=0)[2]
        directions = np.ascontiguousarray(found.T, dtype=np.float32)
        return cls(space, directions, _positions(pool, space, directions))

    def extended(self, pool: Rows) -> Sketch:
        """Return the sketch of a pool that has grown at its end, in the same space and along the same directions."""
        more = _positions(pool[len(self) :], self._space, self._directions)
        return Sketch(self._space, self._directions, np.concatenate([self._positions, more]))

    def similarity_to(self, pool: Rows, row: int) -> NDArray[Any]:
        """Return how similar each crop of a pool is to one of them, as the function of this name does.

        Args:
            pool: (n, d) embeddings; of what lies beyond the sketch, nothing is returned.
            row: of the crop.

        Only the most similar 2,048 have their cosine; the others have what the sketch says of it, less 4.

        Raises:
            IndexError: the pool has no such row.
        """
        return self._similarity(pool, _direction(pool, row, self._space), self._space, SHORTLIST)

    def similarity_to_row(self, pool: Rows, row: NDArray[Any]) -> NDArray[Any]:
        """Return how similar each crop of a pool is to a row that is no crop's, as the function of this name does.

        Args:
            pool: (n, d) embeddings; of what lies beyond the sketch, nothing is returned.
            row: (d,), as `Encoder.encode_words` makes it.

        Only the most similar 8,192 have their cosine; the others have what the sketch says of it, less 4.
        """
        return self._similarity(pool, unit_rows(row[None])[0], EmbeddingSpace(), SHORTLIST_OF_WORDS)

    def _similarity(
        self, pool: Rows, direction: NDArray[Any], space: EmbeddingSpace, shortlist: int
    ) -> NDArray[Any]:
        rough = self._positions[: len(pool)] @ (self._directions.T @ direction)
        near: NDArray[Any] = np.arange(len(rough))
        if len(rough) > shortlist:
            near = np.sort(np.argpartition(-rough, shortlist)[:shortlist])
        similarity = rough - np.float32(BELOW)
        similarity[near] = space.features(gather(pool, near)) @ direction
        return np.asarray(similarity)


def similarity_to(pool: Rows, row: int, space: EmbeddingSpace | None = None) -> NDArray[Any]:
    """Return how similar each crop is to one of them.

    Args:
        pool: (n, d) embeddings, read in chunks.
        row: of the crop.
        space: compares them; the pool's own centre if None. One without a centre is given the pool's.

    Returns:
        (n,) float32 cosines from -1 to 1.

    Raises:
        IndexError: the pool has no such row.
    """
    space = _adapted(pool, space)
    return _positions(pool, space, _direction(pool, row, space)[:, None])[:, 0]


def similarity_to_row(pool: Rows, row: NDArray[Any]) -> NDArray[Any]:
    """Return how similar each crop is to a row that is no crop's: their cosine as the encoder made them, not centred on the pool.

    The pool's centre is that of crops; words lie apart from all of them (Liang et al., 2203.02053).

    Args:
        pool: (n, d) embeddings, read in chunks.
        row: (d,), as `Encoder.encode_words` makes it.

    Returns:
        (n,) float32 cosines from -1 to 1.
    """
    return _positions(pool, EmbeddingSpace(), unit_rows(row[None]).T)[:, 0]


def _adapted(pool: Rows, space: EmbeddingSpace | None) -> EmbeddingSpace:
    space = EmbeddingSpace() if space is None else space.copy()
    return space if space.has_centre else space.adapt(pool)


def _direction(pool: Rows, row: int, space: EmbeddingSpace) -> NDArray[Any]:
    if not 0 <= row < len(pool):
        raise IndexError(f"The pool has {len(pool)} crops, and none at row {row}.")
    return np.asarray(space.features(gather(pool, np.asarray([row])))[0])


def _positions(pool: Rows, space: EmbeddingSpace, directions: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(space.scores(pool, directions, np.zeros(directions.shape[1], dtype=np.float32)))


def most_similar(similarity: NDArray[Any], count: int, allowed: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return the rows of the most similar crops, the most similar first.

    Args:
        similarity: (n,) as `similarity_to` returns it.
        count: how many at most.
        allowed: (n,) bool: the crops to choose among; all if None.
    """
    rows = np.arange(len(similarity)) if allowed is None else np.flatnonzero(allowed)
    if len(rows) > count:
        rows = rows[np.argpartition(-similarity[rows], count - 1)[:count]] if count else rows[:0]
    return np.asarray(rows[np.lexsort((rows, -similarity[rows]))])
