"""Query strategies by name: one file each, all held to one contract."""

from __future__ import annotations

from typing import Any

from model.query.base import Query, QueryStrategy
from model.query.coverage import CoverageQueryStrategy
from model.query.coverage_then_hybrid import CoverageThenHybridQueryStrategy
from model.query.hybrid import HybridQueryStrategy
from model.query.margin import MarginQueryStrategy
from model.query.random import RandomQueryStrategy

__all__ = [
    "DEFAULT",
    "CoverageQueryStrategy",
    "CoverageThenHybridQueryStrategy",
    "HybridQueryStrategy",
    "MarginQueryStrategy",
    "Query",
    "QueryStrategy",
    "RandomQueryStrategy",
    "create",
    "names",
]

_STRATEGIES: dict[str, type[QueryStrategy]] = {
    strategy.name: strategy
    for strategy in (
        CoverageQueryStrategy,
        CoverageThenHybridQueryStrategy,
        HybridQueryStrategy,
        MarginQueryStrategy,
        RandomQueryStrategy,
    )
}
DEFAULT = CoverageThenHybridQueryStrategy.name


def names() -> tuple[str, ...]:
    """The names `create` knows, sorted."""
    return tuple(sorted(_STRATEGIES))


def create(name: str, **options: Any) -> QueryStrategy:
    """Make a query strategy by name; raises ValueError for a name that is not in `names()`."""
    if name not in _STRATEGIES:
        raise ValueError(f"unknown query strategy {name!r}: choose one of {', '.join(names())}")
    return _STRATEGIES[name](**options)
