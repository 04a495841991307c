"""Damaged databases that can be rebuilt: set aside at the start, so that the backend starts."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock

log = logging.getLogger(__name__)

REBUILT = ("jobs.db", "everylabel-inbox.db")
"""Requests are made again by whoever needs them; a label whose webhook is gone is found by the next comparison."""
_BESIDE = ("", "-wal", "-shm", "-journal")
_MARK = ".damaged-"


def set_aside_damaged(folder: Path) -> list[Path]:
    """Rename the databases of a MODEL_DIR that are damaged and can be rebuilt, and return their new names.

    Only what SQLite itself calls damaged counts: one that is locked, or on a failing disk, is left alone.
    """
    if not any((folder / name).exists() for name in REBUILT):
        return []
    with FileLock(folder / "damaged.lock"):
        return [_set_aside(folder / name) for name in REBUILT if _is_damaged(folder / name)]


def found_aside(folder: Path) -> list[Path]:
    """Return the databases that were set aside and not yet deleted."""
    return sorted(
        path
        for name in REBUILT
        for path in folder.glob(f"{name}{_MARK}*")
        if not path.name.endswith(_BESIDE[1:])
    )


def _is_damaged(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.OperationalError:  # locked, read-only, or the disk fails: not the file's fault
        return False
    except sqlite3.DatabaseError:
        return True


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}{_MARK}{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}")
    for suffix in _BESIDE:
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(aside.with_name(aside.name + suffix))
    log.error("%s was damaged: it is kept as %s, and made anew", path, aside.name)
    return aside
