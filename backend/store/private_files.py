"""What the backend remembers is nobody else's: labels, pictures' signed addresses, models."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

OTHERS = 0o077
"""What a file grants to everybody but its owner."""


def keep_private(folder: Path) -> None:
    """Make a folder that its owner alone may enter; one an earlier version left open is closed, with all its files."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not folder.stat().st_mode & OTHERS:
        return
    try:
        _close(folder)
        for parent, folders, files in os.walk(folder):
            for name in (*folders, *files):
                _close(Path(parent, name))
    except PermissionError as error:
        log.warning("other users of this machine may read %s, which is not ours to close: %s", folder, error)


@contextmanager
def private_umask() -> Iterator[None]:
    """For that long, files this process makes are its owner's alone; other threads' too."""
    before = os.umask(OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def _close(path: Path) -> None:
    try:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o777 & ~OTHERS)
    except FileNotFoundError:
        pass  # what is there for a moment, as a database's log
