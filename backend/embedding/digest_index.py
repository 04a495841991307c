"""Which pixels have a row in a project's embedding file already, and where the next rows go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from everylabel.backend.store import Store
from everylabel.backend.store.files import EmbeddingFile

KEPT = 32_768
"""Digests in memory: more than are ever on their way through a pipeline. The store knows the others."""


class KnownRows:
    """The rows of a project by the digests of their crops' pixels. Safe to share between threads.

    Args:
        store: knows the digests of the rows it points at.
        project_id: the project.
        file: its rows. Only one at a time appends to it, whoever else looks up: `ProjectFiles.embedding_lock`.
    """

    def __init__(self, store: Store, project_id: int, file: EmbeddingFile) -> None:
        self._store = store
        self._project_id = project_id
        self._file = file
        self._lock = Lock()
        self._rows: OrderedDict[bytes, int | None] = OrderedDict()

    def look_up(self, digests: Iterable[bytes]) -> None:
        """Ask the store for the rows of crops that come next."""
        with self._lock:
            unknown = [digest for digest in set(digests) if digest not in self._rows]
        found = self._store.rows_of(self._project_id, unknown)
        on_disk = len(self._file)
        with self._lock:
            for digest, row in found.items():
                if row < on_disk:
                    self._rows.setdefault(digest, row)

    def expect(self, digest: bytes) -> bool:
        """Whether a crop is new, and so has to be encoded; asked again, it is on its way."""
        with self._lock:
            if digest not in self._rows:
                self._rows[digest] = None
                return True
            self._rows.move_to_end(digest)  # kept until the row is copied
            return False

    def row(self, digest: bytes) -> int:
        """Where the row of a digest is that was looked up, or appended before."""
        with self._lock:
            row = self._rows[digest]
        if row is None:
            raise KeyError("The row of these pixels is not written yet.")
        return row

    def take_over(self, digests: Collection[bytes]) -> set[bytes]:
        """Learn where another has put the rows of these pixels meanwhile; returns those of them that have one."""
        with self._lock:
            known = {digest for digest in digests if self._rows.get(digest) is not None}
        on_disk = len(self._file)
        unknown = [digest for digest in digests if digest not in known]
        found = {d: row for d, row in self._store.rows_of(self._project_id, unknown).items() if row < on_disk}
        with self._lock:
            self._rows.update(found)
        return known | found.keys()

    def forget(self, digests: Iterable[bytes]) -> None:
        """No longer expect the rows of these: they are not to be had."""
        with self._lock:
            for digest in digests:
                if self._rows.get(digest, 0) is None:
                    del self._rows[digest]

    def append(self, rows: NDArray[Any], digests: Sequence[bytes]) -> int:
        """Append rows, one a digest; returns the number of the first.

        What a crash has left at the end of the file, and the store has never pointed at, is written over. Where that
        is, is read anew each time: others append too.
        """
        end = self._store.embedded_until(self._project_id, len(self._file))
        first = self._file.append(rows, at=end)
        with self._lock:
            for i, digest in enumerate(digests):
                if self._rows.get(digest) is None:
                    self._rows[digest] = first + i
            while len(self._rows) > KEPT and next(iter(self._rows.values())) is not None:
                self._rows.popitem(last=False)
        return first
