"""Keep the sketches of large pools, by which the crops most similar to one are found without reading every embedding."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
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
AGAIN_SECONDS = 600.0
"""How long nothing is made anew for the same project, whatever has become of the last one."""


@dataclass(frozen=True)
class _Kept:
    sketch: Sketch
    made_of: int
    """How many crops there were when its directions were found."""
    file: str
    """The file of embeddings that it is of."""


class Sketches:
    """The sketches of the pools that people label, made in the background. Safe to share between threads.

    Args:
        store: Knows how many rows of a pool are some crop's.
        embeddings: The embeddings of each project.
        clock: Returns seconds since any moment.
    """

    def __init__(
        self, store: Store, embeddings: Embeddings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._embeddings = embeddings
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._begun: dict[int, float] = {}
        self._making: dict[int, threading.Thread] = {}

    def prepare(self, project_id: int) -> None:
        """Have a sketch made if the project's pool is large and has none; return at once."""
        n = self._store.known_rows(project_id)
        with self._lock:
            known, begun = self._kept.get(project_id), self._begun.get(project_id)
            if (
                n < LARGE
                or (known is not None and n < GROWN * known.made_of)
                or (begun is not None and self._clock() < begun + AGAIN_SECONDS)
            ):
                return
            self._begun[project_id] = self._clock()
            thread = threading.Thread(
                target=self._make, args=(project_id, n), name=f"sketch {project_id}", daemon=True
            )
            self._making[project_id] = thread
            thread.start()

    def of(self, project_id: int, pool: NDArray[Any]) -> Sketch | None:
        """Return the sketch of a pool, with what was embedded since it was made; None where there is none.

        Args:
            project_id: The project.
            pool: Its embeddings. Rows that a crash has left at their end, and that are some crop's no more, are left out.
        """
        with self._lock:
            known = self._kept.get(project_id)
            if known is None:
                return None
            self._kept.move_to_end(project_id)
        if known.file != self._embeddings.file(project_id).identity():
            with self._lock:
                self._kept.pop(project_id, None)
            return None
        pool = pool[: self._store.known_rows(project_id)]
        if len(pool) > len(known.sketch):
            known = replace(known, sketch=known.sketch.extended(pool))
            self._keep(project_id, known)
        return known.sketch

    def wait(self, project_id: int) -> None:
        """Wait until a sketch that is being made is done."""
        with self._lock:
            thread = self._making.get(project_id)
        if thread is not None:
            thread.join()

    def _make(self, project_id: int, n: int) -> None:
        from everylabel.model.similarity import Sketch  # noqa: PLC0415 - takes long to load

        try:
            file = self._embeddings.file(project_id)
            pool, space = file.read()[:n], self._embeddings.encoder(project_id).make_classifier().space
            self._keep(project_id, _Kept(Sketch.of(pool, space), len(pool), file.identity()))
        except Exception:
            log.exception("project %s: no sketch could be made; every crop is compared instead", project_id)
        finally:
            with self._lock:
                del self._making[project_id]

    def _keep(self, project_id: int, new: _Kept) -> None:
        with self._lock:
            known = self._kept.get(project_id)
            same = known is not None and (known.made_of, known.file) == (new.made_of, new.file)
            if known is not None and same and len(known.sketch) >= len(new.sketch):
                return  # another thread has seen more of the pool
            self._kept[project_id] = new
            self._kept.move_to_end(project_id)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
