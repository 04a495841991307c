"""What a file is called while it is written; it takes its place once it is whole."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def partial(path: Path) -> Path:
    """A name beside `path` that no other process takes, on this machine or on one that shares the folder."""
    return path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}")
