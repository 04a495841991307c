"""The reserve of a round: crops behind its queue, for annotators who are quicker than the backend, or alone.

Label Studio 1.23.2 answers 404, though crops are left, where others hold every unlabelled crop of the round it serves:
it falls back to random crops only once the round has none left. With the backend down, a round is soon used up.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from everylabel.model.session import Round

CROPS_AT_LEAST = 50
"""So many crops a round has Label Studio serve, where the pool has them: what its queue lacks is the reserve."""


def reserve_rows(outcome: Round, open_rows: NDArray[Any], asked: Collection[int], seed: int) -> list[int]:
    """Return the rows of the reserve: the least confident first, or random ones before there is a model.

    Args:
        outcome: the result of the round.
        open_rows: (n,) bool, the crops that anybody may be asked for.
        asked: the rows that the queue has already.
        seed: of the random order.
    """
    wanted = CROPS_AT_LEAST - len(asked)
    is_open = open_rows.copy()
    is_open[[*asked]] = False
    rows = np.flatnonzero(is_open)
    if wanted <= 0 or not len(rows):
        return []
    if outcome.probabilities is None:
        chosen = np.random.default_rng([seed, outcome.number, 3]).permutation(rows)[:wanted]
    else:
        confidence = outcome.probabilities[rows].max(axis=1)
        least = np.argpartition(confidence, min(wanted, len(rows)) - 1)[:wanted]
        chosen = rows[least[np.lexsort((least, confidence[least]))]]
    found: list[int] = chosen.tolist()
    return found
