"""A small disk of a test's own: mounted in a namespace that one command and its children see."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

OWN_MOUNTS = ("unshare", "--map-root-user", "--mount")
"""Put before a command, it may mount what nobody else sees."""


def skip_if_nobody_may_mount(folder: Path) -> None:
    """Skip the test where mounting a disk on a folder is not allowed, or the tools of util-linux for it are missing."""
    try_it = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    missing = any(shutil.which(tool) is None for tool in ("unshare", "nsenter"))
    if missing or subprocess.run(try_it, capture_output=True, check=False).returncode:
        pytest.skip("Nobody may mount a disk here.")
