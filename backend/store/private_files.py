"""File permissions of what the backend stores: labels, signed addresses and models are its owner's alone."""

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
    """Create a folder that only its owner may enter; close one that an earlier version left open, with its files."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not folder.stat().st_mode & OTHERS:
        return
    try:
        _close(folder)
        for parent, folders, files in os.walk(folder):
            for name in (*folders, *files):
                _close(Path(parent, name))
    except PermissionError as error:
        log.warning(
            "other users of this machine may read %s, whose permissions are not ours to change: %s",
            folder,
            error,
        )


@contextmanager
def private_umask() -> Iterator[None]:
    """Make files that this process creates in the block private to their owner; other threads' files too."""
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
