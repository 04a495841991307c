"""How the learning core reads a pool: a slice or a list of rows at a time, never all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

CHUNK_ROWS = 1024


class Rows(Protocol):
    """Anything indexed like an array along its first axis: an array, a memory map, a tensor, `MappedRows`."""

    @property
    def shape(self) -> Any:
        """The shape; the first entry counts rows."""

    def __len__(self) -> int:
        """The number of rows."""

    def __getitem__(self, key: Any, /) -> Any:
        """The rows at a slice or at an integer array."""


class MappedRows:
    """Rows seen through a function that is applied only to those asked for.

    A pool of a million embeddings stays the float16 file it is, while a query strategy sees centred float32
    features of the few thousand rows it looks at.
    """

    def __init__(self, rows: Rows, function: Callable[[Any], NDArray[Any]]) -> None:
        self._rows = rows
        self._function = function
        self._dim: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d): d is known once a row has been looked at, so this may compute one."""
        if self._dim is None:
            self._dim = int(self._function(self._rows[:1]).shape[1]) if len(self._rows) else 0
        return len(self._rows), self._dim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: slice | NDArray[Any]) -> NDArray[Any]:
        return self._function(self._rows[key])


def chunks(n: int, size: int = CHUNK_ROWS) -> Iterator[slice]:
    """Slices that cover 0 … n-1 in order, `size` rows each."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def spread(n: int, at_most: int) -> NDArray[Any]:
    """At most `at_most` row numbers spread evenly over 0 … n-1, ascending: a sample that needs no seed."""
    if n <= at_most:
        return np.arange(n)
    return np.linspace(0, n - 1, at_most).round().astype(np.intp)
