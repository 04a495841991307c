"""The temporary name of a file while it is written; the file takes its place once it is complete."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def partial(path: Path) -> Path:
    """Return a name beside `path` that no other process uses, on this machine or another that shares the folder."""
    return path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}")


@contextmanager
def taking_its_place(path: Path) -> Iterator[Path]:
    """Give the name to write `path` under, of this thread alone.

    The file takes its place where the block ends well; where it does not, nothing is left of it.
    """
    unfinished = partial(path.with_name(f"{path.name}.{threading.get_ident()}"))
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together: each takes its place once all are whole on the disk, in the order given.

    Raises:
        OSError: one cannot be written; all are then as they were before.
    """
    for path in files:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        for path, content in files.items():
            with partial(path).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path in files:
            partial(path).replace(path)
    finally:
        for path in files:
            partial(path).unlink(missing_ok=True)
