"""Draw maps in the background: a watcher in the trainer starts a process of the lowest priority that does the work."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import Timeout

from everylabel.backend.bounded_process import bound_resources, end_with_parent
from everylabel.backend.store import faults, pool_map, round_snapshot

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.store import Store
    from everylabel.backend.store.files import EmbeddingFile, ProjectFiles

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
FAILED_SECONDS = 60.0
LIMIT_SECONDS = 3600.0
MEMORY_BYTES = 2_000_000_000
"""The most memory that drawing one map may take, apart from the embedding file, which is memory-mapped."""


class MapDrawer:
    """A watcher that has the map of a project drawn when it lacks crops, one map at a time.

    Args:
        store: Names the projects.
        files: Returns a project's files.
        embeddings: The embeddings that maps are drawn from.
    """

    def __init__(self, store: Store, files: Callable[[int], ProjectFiles], embeddings: Embeddings) -> None:
        self._store = store
        self._files = files
        self._embeddings = embeddings
        self._seen: dict[int, int] = {}
        """When the round was written that each project's map was last checked against."""

    def start(self) -> None:
        """Watch from now on, as long as this process lives."""
        threading.Thread(target=self._watch, name="maps", daemon=True).start()

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(POLL_SECONDS):
            self._draw_safely(pause)

    def _draw_safely(self, pause: threading.Event) -> None:
        try:
            self.draw_due()
        except Exception:
            # Logged and tried again: a map is never worth a trainer.
            log.exception("drawing a map failed")
            pause.wait(FAILED_SECONDS)

    def draw_due(self) -> None:
        """Draw every map that lacks crops."""
        for project in self._store.projects():
            folder = self._files(project.id).folder
            written = round_snapshot.written_at(folder)
            if written is None or self._seen.get(project.id) == written:
                continue
            self._seen[project.id] = written
            snapshot = round_snapshot.load(folder)
            file = self._embeddings.file(project.id)
            if snapshot is None:
                continue
            if pool_map.is_due(pool_map.load(folder), file.path.name, np.flatnonzero(snapshot.tasks)):
                with suppress(Timeout), self._files(project.id).drawing_lock():
                    self._draw_or_note(project.id, folder, file)

    def _draw_or_note(self, project_id: int, folder: Path, file: EmbeddingFile) -> None:
        """Draw one map; note a failure, which `doctor` shows, and try again with the next round."""
        try:
            why = self._draw(project_id, folder, file)
        except subprocess.TimeoutExpired:
            why = f"it takes longer than {LIMIT_SECONDS / 60:.0f} min"
            log.error("the map of project %s could not be drawn: %s", project_id, why)
        except OSError as error:
            why = f"no process could be started: {error.strerror}"
            log.error("the map of project %s could not be drawn: %s", project_id, why)
        if why is None:
            faults.over(folder, faults.MAP)
        else:
            faults.note(folder, faults.MAP, why, time.time())

    def _draw(self, project_id: int, folder: Path, file: EmbeddingFile) -> str | None:
        """Draw one map, and return why that failed, without what the process itself says."""
        command = [sys.executable, "-m", "everylabel.backend.worker.map_drawing"]
        done = subprocess.run(
            [*command, str(folder), str(file.path), str(file.dim), file.dtype.str, str(os.getpid())],
            # One core: the other is for the people who label.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        if done.returncode:
            log.error("the map of project %s could not be drawn: %s", project_id, done.stderr[-2000:])
            return f"status {done.returncode}; the trainer's log says why"
        return None


def main(folder: Path, embeddings: Path, dim: int, dtype: str) -> None:
    """Draw the map of one project.

    Args:
        folder: The project's folder, which the map is saved in.
        embeddings: The embedding file: rows of `dim` numbers.
        dim: The width of a row.
        dtype: The type of its numbers, as NumPy names it.
    """
    os.nice(19)
    snapshot = round_snapshot.load(folder)
    if snapshot is None:
        return
    width = dim * np.dtype(dtype).itemsize
    n = min(len(snapshot.tasks), embeddings.stat().st_size // width)
    if n == 0:
        return
    pool = np.memmap(embeddings, dtype=dtype, mode="r", shape=(n, dim))
    pool_map.draw(folder, embeddings.name, pool, np.flatnonzero(snapshot.tasks[:n]))


if __name__ == "__main__":
    end_with_parent(int(sys.argv[5]))
    bound_resources(MEMORY_BYTES, int(LIMIT_SECONDS))
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
