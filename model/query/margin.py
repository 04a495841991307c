"""Margin sampling: the crops whose two most probable classes are closest."""

from __future__ import annotations

from typing import ClassVar

from everylabel.model.query.base import Query, QueryStrategy, count, most_uncertain
from everylabel.model.query.max_herding import MaxHerdingQueryStrategy
from everylabel.model.query.uncertainty import margin_uncertainty


class MarginQueryStrategy(QueryStrategy):
    """Takes the most uncertain candidates (Scheffer et al. 2001); coverage until there is a model."""

    name: ClassVar[str] = "margin"

    def select(self, query: Query, batch_size: int) -> list[int]:
        """Choose by margin, smallest first."""
        if query.probabilities is None:
            return MaxHerdingQueryStrategy().select(query, batch_size)
        uncertainty = margin_uncertainty(query.probabilities[query.candidates])
        chosen = most_uncertain(query.candidates, uncertainty, count(query, batch_size), query.seed)
        return [int(index) for index in chosen]
