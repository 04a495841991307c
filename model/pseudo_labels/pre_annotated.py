"""The places in the order of labelling that go to crops the model is confident of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def mix_in(batch: Sequence[int], confident: Iterable[int], *, n_before: int, share: float) -> list[int]:
    """Give confident crops their turns among those a round asks for; what no longer fits is left to later rounds.

    A turn depends on how many crops were labelled before it and on nothing else: whether a round follows every label
    or every tenth, each 1/share-th crop is a confident one.

    Args:
        batch: pool indices in the order they are to be labelled.
        confident: pool indices of confident crops, the best first, none of them in the batch.
        n_before: how many crops were labelled before, blind check crops left out.
        share: share of all labels, 0 to 1, that goes to confident crops.

    Returns:
        As many pool indices as the batch has, in the order they are to be labelled.
    """
    asked, prefilled = iter(batch), iter(confident)
    mixed = []
    for number in range(n_before + 1, n_before + len(batch) + 1):
        turn = next(prefilled, None) if _is_turn(number, share) else None
        mixed.append(next(asked) if turn is None else turn)
    return mixed


def _is_turn(number: int, share: float) -> bool:
    """Tell whether the share of the first `number` labels is one crop more than that of those before."""
    return math.floor(number * share + 1e-9) > math.floor((number - 1) * share + 1e-9)
