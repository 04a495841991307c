"""An embedding file as the machines of a cluster read it: in place, or copied to shared or object storage by fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from backend.project_files import EmbeddingFile


@dataclass(frozen=True)
class RowSlice:
    """Some rows of a pool, and where their bytes lie."""

    first: int
    """The number of the first."""
    n: int
    url: str
    """As fsspec names it."""
    offset: int
    """In bytes."""


class RowCopy:
    """The rows of an embedding file where a cluster can read them.

    What is copied stays under the file's identity: a slice is copied again only where it has grown.

    Args:
        file: the embedding file.
        storage: a folder as fsspec names it, with what its file system takes as credentials in the
            environment; empty: the file itself is read.
    """

    def __init__(self, file: EmbeddingFile, storage: str) -> None:
        self._file = file
        self._storage = storage

    def slices(self, n: int, size: int) -> Iterator[RowSlice]:
        """The first `n` rows, `size` at a time; when one is given out, its bytes are there."""
        width = self._file.dim * self._file.dtype.itemsize
        if not self._storage:
            url = f"file://{self._file.path.absolute()}"
            for first in range(0, n, size):
                yield RowSlice(first, min(size, n - first), url, first * width)
            return
        files, root = fsspec.core.url_to_fs(f"{self._storage.rstrip('/')}/{self._file.identity()}")
        files.makedirs(root, exist_ok=True)
        for first in range(0, n, size):
            rows = min(size, n - first)
            path = f"{root}/{first:012d}"
            if not files.exists(path) or files.size(path) < rows * width:
                with self._file.path.open("rb") as source:
                    source.seek(first * width)
                    files.pipe_file(path, source.read(rows * width))
            yield RowSlice(first, rows, files.unstrip_protocol(path), 0)


def read_rows(part: RowSlice, dim: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read a slice: (n, dim) of `dtype`.

    Raises:
        EOFError: it is not there in full.
    """
    wanted = part.n * dim * dtype.itemsize
    with fsspec.open(part.url, "rb") as source:
        source.seek(part.offset)
        found = source.read(wanted)
    if len(found) != wanted:
        raise EOFError(f"{part.url} holds {len(found)} of {wanted} bytes from {part.offset}")
    return np.frombuffer(found, dtype=dtype).reshape(part.n, dim)
