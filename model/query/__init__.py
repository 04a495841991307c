"""Query strategies by name: one file each, all held to one contract."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from everylabel.model import plugins
from everylabel.model.lazy import lazy_names

if TYPE_CHECKING:
    from everylabel.model.query.auto import AutoQueryStrategy
    from everylabel.model.query.badge import BadgeQueryStrategy
    from everylabel.model.query.base import Query, QueryStrategy
    from everylabel.model.query.dropquery import DropQueryQueryStrategy
    from everylabel.model.query.hybrid import HybridQueryStrategy
    from everylabel.model.query.k_centre import KCentreQueryStrategy
    from everylabel.model.query.margin import MarginQueryStrategy
    from everylabel.model.query.max_herding import MaxHerdingQueryStrategy
    from everylabel.model.query.probcover import ProbCoverQueryStrategy
    from everylabel.model.query.random import RandomQueryStrategy
    from everylabel.model.query.typiclust import TypiClustQueryStrategy
    from everylabel.model.query.uherding import UHerdingQueryStrategy

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
    "require_known",
]

# name -> module and class. Imported on demand: a command's --help should not wait for torch and scikit-learn.
_REGISTRY = {
    "auto": ("auto", "AutoQueryStrategy"),
    "badge": ("badge", "BadgeQueryStrategy"),
    "dropquery": ("dropquery", "DropQueryQueryStrategy"),
    "hybrid": ("hybrid", "HybridQueryStrategy"),
    "k-centre": ("k_centre", "KCentreQueryStrategy"),
    "margin": ("margin", "MarginQueryStrategy"),
    "max-herding": ("max_herding", "MaxHerdingQueryStrategy"),
    "probcover": ("probcover", "ProbCoverQueryStrategy"),
    "random": ("random", "RandomQueryStrategy"),
    "typiclust": ("typiclust", "TypiClustQueryStrategy"),
    "uherding": ("uherding", "UHerdingQueryStrategy"),
}
DEFAULT = "auto"
PLUGINS = "everylabel.query_strategies"
"""The group of entry points for strategies of other packages."""


__getattr__ = lazy_names(
    __name__,
    {"Query": "base", "QueryStrategy": "base", **{name: module for module, name in _REGISTRY.values()}},
)


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
        own: QueryStrategy = getattr(import_module(f"{__name__}.{module}"), class_name)(**options)
        return own
    strategy: QueryStrategy = _plugin(name)(**options)
    return strategy


def require_known(name: str) -> None:
    """Check that there is a query strategy of this name.

    Raises:
        ValueError: there is none, and the message lists what there is; or a plugin cannot be loaded.
    """
    if name not in _REGISTRY:
        _plugin(name)


def _plugin(name: str) -> type[QueryStrategy]:
    found: Any = plugins.find(PLUGINS, name)
    if found is None:
        known = ", ".join([*names(), *plugins.names(PLUGINS)])
        raise ValueError(
            f"unknown query strategy {name!r}: choose one of {known}, or name a class of yours as "
            f"package.module:Class. A plugin's name is there once its package is installed where everylabel runs."
        )
    plugins.require_kind(found, import_module(f"{__name__}.base").QueryStrategy, name)
    strategy: type[QueryStrategy] = found
    return strategy
