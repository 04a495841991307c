"""Faults in the background that stop nobody, so that nobody would hear of them: a file each in the project's folder."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from everylabel.backend.store.atomic_write import taking_its_place

MAP, IMAGES, WEBHOOKS = "map", "images", "webhooks"
"""Drawing the map failed; a host of images did not answer; labels were found that no webhook told of."""


@dataclass(frozen=True)
class Fault:
    """A fault that lasts; times are in seconds since 1970."""

    what: str
    since: float
    times: int


def note(folder: Path, kind: str, what: str, now: float) -> None:
    """Note that something went wrong, once more.

    Args:
        folder: the project's.
        kind: `MAP`, `IMAGES` or `WEBHOOKS`.
        what: the reason, for people.
        now: in seconds since 1970.
    """
    known = find(folder, kind)
    fault = Fault(what, now if known is None else known.since, 1 if known is None else known.times + 1)
    # The fault is logged in any case, and a folder may have gone with its project.
    with suppress(OSError), taking_its_place(_path(folder, kind)) as unfinished:
        unfinished.write_text(json.dumps(asdict(fault)), encoding="utf-8")


def over(folder: Path, kind: str) -> None:
    """Forget a fault, because it went well this time."""
    with suppress(OSError):
        _path(folder, kind).unlink(missing_ok=True)


def find(folder: Path, kind: str) -> Fault | None:
    """Return a fault, or None where there is none or its file is damaged."""
    try:
        return Fault(**json.loads(_path(folder, kind).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _path(folder: Path, kind: str) -> Path:
    return folder / f"fault-{kind}.json"
