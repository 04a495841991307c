"""The temporary name of a file while it is written; the file takes its place once it is complete."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def partial(path: Path) -> Path:
    """Return a name beside `path` that no other process uses, on this machine or another that shares the folder."""
    return path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}")
