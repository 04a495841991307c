"""Give the machines of a cluster an embedding file: in place, or copied to shared or object storage by fsspec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from everylabel.backend.embedding.executor import ExecutorError

if TYPE_CHECKING:
    from everylabel.backend.store.files import EmbeddingFile

UPLOADS = 8
"""How many slices are uploaded at a time: one connection rarely uses a whole network."""
UPLOADED_BYTES = 320 << 20
"""The most bytes uploaded at a time, but at least one slice; s3fs holds each in memory three times."""

ON_STORAGE = (
    "Check the bucket's name, and that this machine and every machine of the cluster has its endpoint and credentials in "
    "the environment, on the cluster before `ray start`: docs/deploying.md."
)
IN_PLACE = "Every machine of the cluster needs it under this name, or give `--storage`."


@dataclass(frozen=True)
class RowSlice:
    """A slice of the rows of a pool, and the place of its bytes."""

    first: int
    """The number of the first row."""
    n: int
    url: str
    """The file, as fsspec names it."""
    offset: int
    """The position of the first row in the file, in bytes."""


class RowCopy:
    """A copy of the rows of an embedding file that a cluster can read.

    Copies are stored under the file's identity: a slice is copied again only if it has grown.

    Args:
        file: The embedding file.
        storage: A folder as fsspec names it; its file system finds endpoint and credentials in the environment. If
            empty, the file itself is read.
    """

    def __init__(self, file: EmbeddingFile, storage: str) -> None:
        self._file = file
        self._storage = storage

    def slices(self, n: int, size: int) -> list[RowSlice]:
        """Return the slices of the first `n` rows, after copying those that are missing.

        Args:
            n: The number of rows.
            size: The number of rows in a slice.

        Returns:
            The slices in order; the last may be shorter.

        Raises:
            ExecutorError: The storage refuses them. What is copied already stays, and is not copied again.
        """
        parts = [(first, min(size, n - first)) for first in range(0, n, size)]
        if not self._storage:
            url = f"file://{self._file.path.absolute()}"
            return [RowSlice(first, rows, url, first * self._width) for first, rows in parts]
        with _told(f"Nothing can be copied to {self._storage}", ON_STORAGE):
            files, root = fsspec.core.url_to_fs(f"{self._storage.rstrip('/')}/{self._file.identity()}")
            if root.startswith("/"):  # an object store has no folders, and s3fs would make the bucket
                files.makedirs(root, exist_ok=True)
            copies = {f"{root}/{first:012d}": (first, rows) for first, rows in parts}
            missing = self._missing(files, root, copies)
            at_a_time = max(1, min(UPLOADS, UPLOADED_BYTES // (size * self._width)))
            with ThreadPoolExecutor(at_a_time) as uploads:
                for _ in uploads.map(lambda path: files.pipe_file(path, self._bytes(*copies[path])), missing):
                    pass
        return [
            RowSlice(first, rows, files.unstrip_protocol(path), 0) for path, (first, rows) in copies.items()
        ]

    def _missing(self, files: Any, root: str, copies: dict[str, tuple[int, int]]) -> Sequence[str]:
        """Return the copies that are missing or incomplete: their size or their last row differs from the file."""
        files.invalidate_cache(root)
        try:
            sizes = {found["name"]: found["size"] for found in files.ls(root, detail=True)}
        except FileNotFoundError:
            sizes = {}
        there = [path for path, (_, rows) in copies.items() if sizes.get(path) == rows * self._width]
        ends = [copies[path][1] * self._width for path in there]
        found = files.cat_ranges(there, [end - self._width for end in ends], ends, on_error="raise")
        whole = {
            path
            for path, row in zip(there, found, strict=True)
            if row == self._bytes(sum(copies[path]) - 1, 1)
        }
        return [path for path in copies if path not in whole]

    def _bytes(self, first: int, rows: int) -> bytes:
        with self._file.path.open("rb") as source:
            source.seek(first * self._width)
            return source.read(rows * self._width)

    @property
    def _width(self) -> int:
        return self._file.dim * self._file.dtype.itemsize


def read_rows(part: RowSlice, dim: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read a slice, with one request if the storage is reached by requests.

    Args:
        part: The slice.
        dim: The width of a row.
        dtype: The type of its numbers.

    Returns:
        (n, dim) array of `dtype`.

    Raises:
        ExecutorError: This machine cannot read the file.
        EOFError: The file is too short.
    """
    wanted = part.n * dim * dtype.itemsize
    with _told(f"{part.url} cannot be read", IN_PLACE if part.url.startswith("file:") else ON_STORAGE):
        files, path = fsspec.core.url_to_fs(part.url)
        found = files.cat_file(path, start=part.offset, end=part.offset + wanted)
    if len(found) != wanted:
        raise EOFError(f"{part.url} holds {len(found)} of {wanted} bytes from {part.offset}")
    return np.frombuffer(found, dtype=dtype).reshape(part.n, dim)


@contextmanager
def _told(what: str, way_out: str) -> Iterator[None]:
    """Raise the errors of any file system as an `ExecutorError` of one line."""
    try:
        yield
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ExecutorError(f"{what} ({why.rstrip('.')}). {way_out}") from error
