"""Uniform samples: what every other strategy has to beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from everylabel.model.query.base import Query, QueryStrategy, count


class RandomQueryStrategy(QueryStrategy):
    """Samples candidates uniformly without replacement."""

    name: ClassVar[str] = "random"

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose by the seed alone."""
        chosen = np.random.default_rng(query.seed).permutation(query.candidates)[: count(query, batch_size)]
        return [int(index) for index in chosen]
