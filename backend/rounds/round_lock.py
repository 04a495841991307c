"""Hold a project's round lock, so that its rounds run one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from filelock import Timeout

if TYPE_CHECKING:
    from everylabel.backend.progress import Progress
    from everylabel.backend.store.files import ProjectFiles

WAITING_SHOWN_SECONDS = 0.5
"""How often a command that waits for the round of another process says so."""


@contextmanager
def round_lock(files: ProjectFiles, wait: bool, progress: Progress | None = None) -> Iterator[None]:
    """Hold a project's round lock, and report the wait while another process holds it.

    Args:
        files: The project's files.
        wait: Wait until the lock is free.
        progress: Called with (what, 0, 0) while waiting.

    Raises:
        filelock.Timeout: Another process holds it, and `wait` is False.
    """
    if not wait or progress is None:
        with files.lock(timeout=-1 if wait else 0):
            yield
        return
    with ExitStack() as held:
        while True:
            with suppress(Timeout):
                held.enter_context(files.lock(timeout=WAITING_SHOWN_SECONDS))
                break
            progress("Waiting for the backend, which runs a round", 0, 0)
        yield
