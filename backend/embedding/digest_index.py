"""Find the rows that pixels already have in a project's embedding file, and append new rows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from everylabel.backend.store.embeddings import RowStore
from everylabel.backend.store.files import EmbeddingFile

KEPT = 32_768
"""How many digests are in memory: more than a pipeline ever holds. The store knows the others."""


class KnownRows:
    """The rows of a project by the digests of their crops' pixels. Safe to share between threads.

    Args:
        store: Knows the digests of the rows it points at.
        project_id: The project.
        file: The project's rows. Appending needs `ProjectFiles.embedding_lock`; looking rows up does not.
    """

    def __init__(self, store: RowStore, project_id: int, file: EmbeddingFile) -> None:
        self._store = store
        self._project_id = project_id
        self._file = file
        self._lock = Lock()
        self._rows: OrderedDict[bytes, int | None] = OrderedDict()

    def look_up(self, digests: Iterable[bytes]) -> None:
        """Load the rows of the next crops from the store."""
        with self._lock:
            unknown = [digest for digest in set(digests) if digest not in self._rows]
        found = self._store.rows_of(self._project_id, unknown)
        on_disk = len(self._file)
        with self._lock:
            for digest, row in found.items():
                if row < on_disk:
                    self._rows.setdefault(digest, row)

    def expect(self, digest: bytes) -> bool:
        """Return whether a crop is new and has to be encoded; for the same digest again, return False."""
        with self._lock:
            if digest not in self._rows:
                self._rows[digest] = None
                return True
            self._rows.move_to_end(digest)  # kept until the row is copied
            return False

    def row(self, digest: bytes) -> int:
        """Return the row of a digest that was looked up or appended before.

        Raises:
            KeyError: The digest is unknown, or its row is not written yet.
        """
        with self._lock:
            row = self._rows[digest]
        if row is None:
            raise KeyError("The row of these pixels is not written yet.")
        return row

    def take_over(self, digests: Collection[bytes]) -> set[bytes]:
        """Look up the rows that other processes have written meanwhile, and return the digests that have a row."""
        with self._lock:
            known = {digest for digest in digests if self._rows.get(digest) is not None}
        on_disk = len(self._file)
        unknown = [digest for digest in digests if digest not in known]
        found = {d: row for d, row in self._store.rows_of(self._project_id, unknown).items() if row < on_disk}
        with self._lock:
            self._rows.update(found)
        return known | found.keys()

    def forget(self, digests: Iterable[bytes]) -> None:
        """Stop expecting the rows of these digests, because they cannot be encoded."""
        with self._lock:
            for digest in digests:
                if self._rows.get(digest, 0) is None:
                    del self._rows[digest]

    def append(self, rows: NDArray[Any], digests: Sequence[bytes]) -> int:
        """Append rows, one for each digest.

        Rows that a crash has left at the end of the file, and that the store has never pointed at, are overwritten.
        Their position is read anew each time, because other processes append too.

        Args:
            rows: (n, dim) embeddings.
            digests: The n digests of their crops.

        Returns:
            The number of the first row.
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
