"""Query strategies and encoders of other packages: by entry point, or by where the class is."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

DOTTED_PATH = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)")


def names(group: str) -> tuple[str, ...]:
    """Return the names that installed packages have entered in a group of entry points, sorted."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - only where a name is not one of ours

    return tuple(sorted({found.name for found in entry_points(group=group)}))


def find(group: str, name: str) -> Any:
    """Return what a name stands for: an entry point of a group, or `package.module:Class`.

    Returns:
        What is found there, unchecked; None for a name that is neither.

    Raises:
        ValueError: it is named but cannot be imported, or two packages claim the name; the message says which
            package or module to mend.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415 - only where a name is not one of ours

    found = {point.value: point for point in entry_points(group=group, name=name)}
    if len(found) > 1:
        claimed = " and ".join(sorted(found))
        raise ValueError(
            f"{name!r} is entered twice in {group}: {claimed}. Uninstall one, or name the one you mean by that path."
        )
    if found:
        (point,) = found.values()
        package = point.dist.name if point.dist is not None else "a package"
        return _load(point.value, f"{name!r}, which {package} enters in {group},")
    return _load(name, repr(name)) if DOTTED_PATH.fullmatch(name) else None


def require_kind(found: Any, kind: type, name: str) -> None:
    """Check that a plugin is a class of the right kind.

    Raises:
        ValueError: it is something else; the message says what to subclass.
    """
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ValueError(
            f"{name!r} is {found!r}, not a subclass of {kind.__name__}: see {kind.__module__} for what it has to do"
        )


def _load(path: str, what: str) -> Any:
    match = DOTTED_PATH.fullmatch(path)
    if match is None:
        raise ValueError(f"{what} is no class: {path!r} does not read package.module:Class")
    try:
        module = import_module(match["module"])
    except ImportError as error:
        raise ValueError(
            f"{what} cannot be imported: {error}. Install its package where everylabel runs, or correct the name."
        ) from error
    try:
        return getattr(module, match["name"])
    except AttributeError as error:
        raise ValueError(f"{what} is missing: {match['module']} has no {match['name']}.") from error
