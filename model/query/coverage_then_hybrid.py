"""Coverage while the model cannot be trusted, the hybrid after."""

from __future__ import annotations

from typing import ClassVar

import torch

from model.pool import Rows
from model.query.base import Query, QueryStrategy
from model.query.hybrid import HybridQueryStrategy
from model.query.max_herding import MaxHerdingQueryStrategy


class CoverageThenHybridQueryStrategy(QueryStrategy):
    """Coverage for the first `cold_start` labels, and at least three for each class known; then the hybrid.

    A first batch by uncertainty is a batch at random: there is nothing to be uncertain about yet. Three labels a
    class, because two leave single runs behind: on ten classes of digits, one crop a round, the worst of ten seeds
    reached 82 % balanced accuracy at 60 labels with two, 85 % with three, 84 % with four.
    """

    name: ClassVar[str] = "coverage-then-hybrid"

    def __init__(self, beta: int = 3, cold_start: int = 10) -> None:
        self.cold_start = cold_start
        self._coverage = MaxHerdingQueryStrategy()
        self._hybrid = HybridQueryStrategy(beta)

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose by the rule whose turn it is."""
        known = 0 if query.probabilities is None else query.probabilities.shape[1]
        cold = query.probabilities is None or len(query.labeled) < max(self.cold_start, 3 * known)
        return (self._coverage if cold else self._hybrid).select(query, batch_size)

    def select_batch(
        self,
        model: torch.nn.Module,
        unlabeled_crops: Rows,
        batch_size: int = 5,
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> list[int]:
        """Choose by the hybrid: who brings a model is past the cold start."""
        return self._hybrid.select_batch(model, unlabeled_crops, batch_size, device, seed)
