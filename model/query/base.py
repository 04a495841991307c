"""The contract of a query strategy: which crops should a person label next?

To add one of yours, subclass `QueryStrategy` with a `name` and a `select`, in a package that enters it in the entry points
`everylabel.query_strategies` (`docs/extending.md`); `everylabel.model.testing.QueryStrategyContract` tests it. One of ours is a file
beside this one, listed in `model/query/__init__.py`; `tests/contract/test_query_strategies.py` then holds it to the
promises of `select`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from everylabel.model.pool import Rows
from everylabel.model.torch_module import embed, predict_proba


@dataclass(frozen=True)
class Query:
    """Everything a strategy may look at. Indices are rows of the pool."""

    features: Rows
    """(n, d) features of the pool. Index only the rows needed: they may be computed when asked for."""
    candidates: NDArray[Any]
    """(c,) distinct indices that may be chosen."""
    labeled: NDArray[Any]
    """(m,) indices already labelled."""
    labels: NDArray[Any]
    """(m,) integer codes of their classes."""
    probabilities: NDArray[Any] | None
    """(n, k) class probabilities of the current model; None before two classes are known."""
    seed: int
    """The same query with the same seed gives the same answer."""


class QueryStrategy(ABC):
    """Chooses the crops worth a person's time."""

    name: ClassVar[str]

    @abstractmethod
    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose distinct candidates, the most useful first.

        Args:
            query: everything there is to choose by.
            batch_size: how many to choose.

        Returns:
            Exactly min(batch_size, len(query.candidates)) pool indices, as Python ints.

        Raises:
            ValueError: `batch_size` is negative.
        """

    def select_batch(
        self,
        model: torch.nn.Module,
        unlabeled_crops: Rows,
        batch_size: int = 5,
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> list[int]:
        """Choose from (n, ...) crops that a torch module predicts: min(batch_size, n) distinct positions.

        Probabilities and embeddings come from the module as `everylabel.model.torch_module` reads it.
        """
        n = len(unlabeled_crops)
        if n == 0 or batch_size == 0:
            return []
        none = np.zeros(0, dtype=np.intp)
        query = Query(
            features=embed(model, unlabeled_crops, device),
            candidates=np.arange(n),
            labeled=none,
            labels=none,
            probabilities=predict_proba(model, unlabeled_crops, device),
            seed=seed,
        )
        return self.select(query, batch_size)


def count(query: Query, batch_size: int) -> int:
    """Return how many crops `select` owes.

    Raises:
        ValueError: `batch_size` is negative.
    """
    if batch_size < 0:
        raise ValueError(f"batch_size must not be negative, got {batch_size}")
    return min(batch_size, len(query.candidates))


def most_uncertain(candidates: NDArray[Any], uncertainty: NDArray[Any], n: int, seed: int) -> NDArray[Any]:
    """Return the n most uncertain candidates, highest first; ties are broken by chance, not by the pool's order."""
    tie = np.random.default_rng(seed).permutation(len(candidates))
    if 0 < n < len(candidates):
        # Only those that may be among the n are sorted: of a million that is a twentieth of the time.
        least = np.partition(uncertainty, len(uncertainty) - n)[len(uncertainty) - n]
        among = np.flatnonzero(uncertainty >= least)
        candidates, uncertainty, tie = candidates[among], uncertainty[among], tie[among]
    return np.asarray(candidates[np.lexsort((tie, -uncertainty))[:n]])
