"""Bounds that a process sets itself: memory and processor time it may take, and that it ends with its parent."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress

POLL_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1  # prctl(2)


def bound_resources(memory_bytes: int, cpu_seconds: int) -> None:
    """Let this process have no more memory of its own and no more processor time than this.

    Beyond the first, allocating raises MemoryError; at the second, it is ended. Files that are memory-mapped to be
    read do not count as memory.
    """
    for kind, most in ((resource.RLIMIT_DATA, memory_bytes), (resource.RLIMIT_CPU, cpu_seconds)):
        hard = resource.getrlimit(kind)[1]
        with suppress(ValueError, OSError):  # macOS has no limit of memory
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def end_with_parent(parent: int) -> None:
    """End this process when its parent has ended, however that was.

    Args:
        parent: the parent's pid, as the parent itself knows it: it may be gone already.
    """
    if sys.platform == "linux":
        # The kernel sees to it, even while a numerical library holds Python's lock.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _end_if_orphaned(parent)
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while True:
        time.sleep(POLL_SECONDS)
        _end_if_orphaned(parent)


def _end_if_orphaned(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(1)  # from a thread, and with nothing to tidy up that a kill would not leave too
