"""Start and end a child process with all that it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupted_later() -> Iterator[None]:
    """Delay Ctrl-C until the block ends: raised inside `Popen` it would leave a process that nobody knows of."""
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield
        return
    came: list[FrameType | None] = []
    before = signal.signal(signal.SIGINT, lambda _, frame: came.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came and callable(before):
        before(signal.SIGINT, came[0])


def end_group(process: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """Terminate the process group, and kill it after `patience` seconds."""
    for ending, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, patience)):
        try:
            # start_new_session made the child's pid its group's id; it stays taken while one member lives.
            os.killpg(process.pid, ending)
        except ProcessLookupError:
            break
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            continue
        if not _group_lives(process.pid):
            break
    process.wait()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
