"""Limit this process: its memory, its processor time, and its life to that of its parent."""

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
    """Limit the memory and the processor time of this process.

    Beyond the first limit, allocating raises MemoryError; at the second, the process is ended.

    Args:
        memory_bytes: The most memory of its own; files that are memory-mapped for reading do not count.
        cpu_seconds: The most processor time.
    """
    for kind, most in ((resource.RLIMIT_DATA, memory_bytes), (resource.RLIMIT_CPU, cpu_seconds)):
        hard = resource.getrlimit(kind)[1]
        with suppress(ValueError, OSError):  # macOS has no limit of memory
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def end_with_parent(parent: int, *, by_signal: bool = True) -> None:
    """End this process when its parent has ended, for whatever reason.

    Args:
        parent: The parent's process id, as the parent passes it: by now it may have ended.
        by_signal: Whether the kernel ends it at once, which it also does when the thread ends that started it.
    """
    if by_signal and sys.platform == "linux":
        # The kernel does this even while a numerical library holds Python's lock.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _end_if_orphaned(parent)
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while True:
        time.sleep(POLL_SECONDS)
        _end_if_orphaned(parent)


def _end_if_orphaned(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(1)  # from a thread; there is nothing to clean up that a kill would not leave too
