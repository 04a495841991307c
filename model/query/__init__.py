"""Query strategies by name: one file each, all held to one contract."""

from __future__ import annotations

from typing import Any

from model.query.auto import AutoQueryStrategy
from model.query.badge import BadgeQueryStrategy
from model.query.base import Query, QueryStrategy
from model.query.dropquery import DropQueryQueryStrategy
from model.query.hybrid import HybridQueryStrategy
from model.query.k_centre import KCentreQueryStrategy
from model.query.margin import MarginQueryStrategy
from model.query.max_herding import MaxHerdingQueryStrategy
from model.query.probcover import ProbCoverQueryStrategy
from model.query.random import RandomQueryStrategy
from model.query.typiclust import TypiClustQueryStrategy
from model.query.uherding import UHerdingQueryStrategy

__all__ = [
    "DEFAULT",
    "AutoQueryStrategy",
    "BadgeQueryStrategy",
    "DropQueryQueryStrategy",
    "HybridQueryStrategy",
    "KCentreQueryStrategy",
    "MarginQueryStrategy",
    "MaxHerdingQueryStrategy",
    "ProbCoverQueryStrategy",
    "Query",
    "QueryStrategy",
    "RandomQueryStrategy",
    "TypiClustQueryStrategy",
    "UHerdingQueryStrategy",
    "create",
    "names",
]

_STRATEGIES: dict[str, type[QueryStrategy]] = {
    strategy.name: strategy
    for strategy in (
        AutoQueryStrategy,
        BadgeQueryStrategy,
        DropQueryQueryStrategy,
        HybridQueryStrategy,
        KCentreQueryStrategy,
        MarginQueryStrategy,
        MaxHerdingQueryStrategy,
        ProbCoverQueryStrategy,
        RandomQueryStrategy,
        TypiClustQueryStrategy,
        UHerdingQueryStrategy,
    )
}
DEFAULT = AutoQueryStrategy.name


def names() -> tuple[str, ...]:
    """The names `create` knows, sorted."""
    return tuple(sorted(_STRATEGIES))


def create(name: str, **options: Any) -> QueryStrategy:
    """Make a query strategy by name; raises ValueError for a name that is not in `names()`."""
    if name not in _STRATEGIES:
        raise ValueError(f"unknown query strategy {name!r}: choose one of {', '.join(names())}")
    return _STRATEGIES[name](**options)
