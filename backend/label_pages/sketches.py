"""Keep the sketches of large pools, by which the crops most similar to one are found without reading every embedding."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.store import Store
    from everylabel.model.similarity import Sketch

log = logging.getLogger(__name__)

LARGE = 50_000
"""Crops from which on a pool has a sketch: comparing all of a smaller one takes a tenth of a second."""
KEPT = 2
"""Sketches that are in memory: 128 MB each at a million crops."""
GROWN = 2.0
"""A pool that has grown by this factor gets a new sketch, along directions of its own."""


class Sketches:
    """The sketches of the pools that people label, made in the background. Safe to share between threads.

    Args:
        store: Knows how many rows of a pool are some crop's.
        embeddings: The embeddings of each project.
    """

    def __init__(self, store: Store, embeddings: Embeddings) -> None:
        self._store = store
        self._embeddings = embeddings
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, tuple[Sketch, int]] = OrderedDict()
        self._making: dict[int, threading.Thread] = {}

    def prepare(self, project_id: int) -> None:
        """Have a sketch made if the project's pool is large and has none; return at once."""
        pool = self._rows(project_id)
        with self._lock:
            known = self._kept.get(project_id)
            if len(pool) < LARGE or project_id in self._making or (known and len(pool) < GROWN * known[1]):
                return
            thread = threading.Thread(
                target=self._make, args=(project_id, pool), name=f"sketch {project_id}", daemon=True
            )
            self._making[project_id] = thread
        thread.start()

    def of(self, project_id: int) -> Sketch | None:
        """Return the sketch of a project's pool, with what was embedded since; None where it is not made yet."""
        with self._lock:
            known = self._kept.get(project_id)
        if known is None:
            return None
        pool = self._rows(project_id)
        sketch, made_of = known
        if len(pool) > len(sketch):
            sketch = sketch.extended(pool)
            self._keep(project_id, sketch, made_of)
        return sketch

    def wait(self, project_id: int) -> None:
        """Wait until a sketch that is being made is done."""
        with self._lock:
            thread = self._making.get(project_id)
        if thread is not None:
            thread.join()

    def _rows(self, project_id: int) -> NDArray[Any]:
        """Return the rows that are some crop's: what a crash has left behind them is written over."""
        pool = self._embeddings.read(project_id)
        return pool[: self._store.known_rows(project_id) or len(pool)]

    def _make(self, project_id: int, pool: NDArray[Any]) -> None:
        from everylabel.model.similarity import Sketch  # noqa: PLC0415 - takes long to load

        try:
            space = self._embeddings.encoder().make_classifier().space
            self._keep(project_id, Sketch.of(pool, space), len(pool))
        except Exception:
            log.exception("project %s: no sketch could be made; every crop is compared instead", project_id)
        finally:
            with self._lock:
                del self._making[project_id]

    def _keep(self, project_id: int, sketch: Sketch, made_of: int) -> None:
        with self._lock:
            known = self._kept.get(project_id)
            if known is not None and known[1] == made_of and len(known[0]) >= len(sketch):
                return  # another thread has seen more of the pool
            self._kept[project_id] = sketch, made_of
            self._kept.move_to_end(project_id)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
