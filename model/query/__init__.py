"""Query strategies by name: one file each, all held to one contract."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from model import plugins

if TYPE_CHECKING:
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
    "PLUGINS",
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

# name -> module and class. Imported on demand: a command's --help should not wait for torch and scikit-learn.
_REGISTRY = {
    "auto": ("model.query.auto", "AutoQueryStrategy"),
    "badge": ("model.query.badge", "BadgeQueryStrategy"),
    "dropquery": ("model.query.dropquery", "DropQueryQueryStrategy"),
    "hybrid": ("model.query.hybrid", "HybridQueryStrategy"),
    "k-centre": ("model.query.k_centre", "KCentreQueryStrategy"),
    "margin": ("model.query.margin", "MarginQueryStrategy"),
    "max-herding": ("model.query.max_herding", "MaxHerdingQueryStrategy"),
    "probcover": ("model.query.probcover", "ProbCoverQueryStrategy"),
    "random": ("model.query.random", "RandomQueryStrategy"),
    "typiclust": ("model.query.typiclust", "TypiClustQueryStrategy"),
    "uherding": ("model.query.uherding", "UHerdingQueryStrategy"),
}
_CLASSES = {
    "Query": "model.query.base",
    "QueryStrategy": "model.query.base",
    **{class_name: module for module, class_name in _REGISTRY.values()},
}
DEFAULT = "auto"
PLUGINS = "everylabel.query_strategies"
"""The group of entry points for strategies of other packages."""


def __getattr__(name: str) -> Any:
    """Import a class of this package where it is asked for."""
    if name in _CLASSES:
        return getattr(import_module(_CLASSES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def names() -> tuple[str, ...]:
    """Return the names of our own strategies, sorted; `create` knows those of plugins too."""
    return tuple(sorted(_REGISTRY))


def create(name: str, **options: Any) -> QueryStrategy:
    """Make a query strategy.

    Args:
        name: one of `names()`, one that an installed package has entered in `everylabel.query_strategies`, or
            `package.module:Class`.
        options: what its constructor takes.

    Raises:
        ValueError: there is no such strategy, or a plugin cannot be loaded; the message says the way out.
    """
    if name in _REGISTRY:
        module, class_name = _REGISTRY[name]
        own: QueryStrategy = getattr(import_module(module), class_name)(**options)
        return own
    found = plugins.find(PLUGINS, name)
    if found is None:
        known = ", ".join([*names(), *plugins.names(PLUGINS)])
        raise ValueError(
            f"unknown query strategy {name!r}: choose one of {known}, or name a class of yours as "
            f"package.module:Class. A plugin's name is there once its package is installed where everylabel runs."
        )
    plugins.require_kind(found, import_module("model.query.base").QueryStrategy, name)
    strategy: QueryStrategy = found(**options)
    return strategy
