"""The trainer's heartbeat, and the figures only it knows, in a file that every process can read."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from everylabel.backend.store.atomic_write import partial

EVERY_SECONDS = 2.0
DEAD_AFTER_SECONDS = 15.0


class Heartbeat:
    """A small file that the trainer writes every two seconds.

    Args:
        path: the file; its age says whether the trainer lives.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stopping = threading.Event()

    def start(self, figures: Callable[[], Mapping[str, float]]) -> None:
        """Write the heartbeat from now on, until `stop` or as long as this process lives."""

        def beat() -> None:
            while not self._stopping.is_set():
                self._write(figures())
                self._stopping.wait(EVERY_SECONDS)

        threading.Thread(target=beat, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Write no more."""
        self._stopping.set()

    def alive(self) -> bool:
        """Return whether the trainer wrote its heartbeat lately; one from the future does not count."""
        try:
            return abs(time.time() - self._path.stat().st_mtime) < DEAD_AFTER_SECONDS
        except FileNotFoundError:
            return False

    def figures(self) -> dict[str, float]:
        """Return the trainer's latest figures; empty if there are none."""
        try:
            return dict(json.loads(self._path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return {}

    def _write(self, figures: Mapping[str, float]) -> None:
        unfinished = partial(self._path)
        try:
            unfinished.write_text(json.dumps(dict(figures)), encoding="utf-8")
            unfinished.replace(self._path)
        except OSError:
            # A full disk: an older figure is better than a trainer taken for dead.
            with suppress(OSError):  # a disk that can only be read: it lives on, and writes once it can
                os.utime(self._path)
