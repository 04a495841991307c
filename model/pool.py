"""How the learning core reads a pool: a slice or a list of rows at a time, never all of it."""

from __future__ import annotations

import math
import mmap
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from everylabel.model.threads import on_each_core

CHUNK_ROWS = 1024
MOST_CHUNK_ROWS = 4096
SHUFFLED = 100_000
CACHED_BYTES = 6 << 20
"""Of a chunk as float32: small enough for the cache that cores share, so large that calls cost little beside it."""
BLOCK_BYTES = 32 << 20
"""Of a memory map that are in memory at once for each core."""
GATHERED_ROWS = 256
"""Of a memory map that are read before it is let go of: the system maps up to 2 MB around each."""


class Rows(Protocol):
    """Anything indexed like an array along its first axis: an array, a memory map, a tensor, `MappedRows`."""

    @property
    def shape(self) -> Any:
        """The shape; the first entry counts rows."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return the rows at a slice or at an integer array."""


class MappedRows:
    """Rows seen through a function that is applied only to those asked for.

    A pool of a million embeddings stays the float16 file it is, while a query strategy sees centred float32
    features of the few thousand rows it reads.
    """

    def __init__(self, rows: Rows, function: Callable[[Any], NDArray[Any]]) -> None:
        self._rows = rows
        self._function = function
        self._dim: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d): d is known once a row has been read, so this may compute one."""
        if self._dim is None:
            self._dim = int(self._function(self._rows[:1]).shape[1]) if len(self._rows) else 0
        return len(self._rows), self._dim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: slice | NDArray[Any]) -> NDArray[Any]:
        if isinstance(key, np.ndarray):
            return self._function(gather(self._rows, key))
        return self._function(self._rows[key])


def chunks(n: int, size: int = CHUNK_ROWS) -> Iterator[slice]:
    """Yield slices that cover 0 … n-1 in order, `size` rows each."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def spread(n: int, at_most: int) -> NDArray[Any]:
    """Return at most `at_most` row numbers spread evenly over 0 … n-1, ascending: a sample that needs no seed."""
    if n <= at_most:
        return np.arange(n)
    return np.linspace(0, n - 1, at_most).round().astype(np.intp)


def gather(rows: Rows, indices: NDArray[Any]) -> Any:
    """Return `rows[indices]`, read a few at a time from a memory map: each row brings its neighbourhood into memory."""
    if not isinstance(rows, np.memmap) or len(indices) <= GATHERED_ROWS:
        return rows[indices]
    found = np.empty((len(indices), *rows.shape[1:]), dtype=rows.dtype)
    for part in chunks(len(indices), GATHERED_ROWS):
        found[part] = rows[indices[part]]
        release_pages(rows)
    return found


def each_chunk(rows: Rows, work: Callable[[slice, NDArray[Any]], None]) -> None:
    """Call `work` with every chunk of rows, as many at a time as there are cores.

    It gets where the chunk lies and (m, d) float32 rows that it may change: they are a buffer, and another
    chunk's after it returns. Which rows make a chunk depends on the width alone, never on the cores. Of a
    read-only memory map only what is being read stays in the process's memory.
    """
    n = len(rows)
    if n == 0:
        return
    width = math.prod(rows.shape[1:])
    size = chunk_rows(width)
    per_block = size * max(1, BLOCK_BYTES // (2 * size * max(width, 1)))
    local = threading.local()

    def read(block: slice) -> None:
        if not hasattr(local, "buffer"):
            local.buffer = np.empty((min(size, n), width), dtype=np.float32)
        for start in range(block.start, block.stop, size):
            part = slice(start, min(start + size, block.stop))
            buffer = local.buffer[: part.stop - part.start]
            _read(rows[part], buffer)
            work(part, buffer)
        release_pages(rows, block)

    # Other kinds of rows may not like to be read from two threads.
    shared = isinstance(rows, (np.ndarray, torch.Tensor))
    on_each_core(read, list(chunks(n, per_block)), most=None if shared else 1)


def chunk_rows(width: int) -> int:
    """Return how many rows of this width a chunk of `each_chunk` has: a power of two from 64 to 4,096.

    A part of a pool that starts at a multiple of it is scored to the same bit as within the whole.
    """
    fitting = max(1, CACHED_BYTES // (4 * max(width, 1)))
    return int(np.clip(1 << (fitting.bit_length() - 1), 64, MOST_CHUNK_ROWS))


def _read(found: Any, buffer: NDArray[Any]) -> None:
    """Read rows of any kind as float32 into a buffer of their size."""
    if isinstance(found, torch.Tensor):
        torch.from_numpy(buffer).copy_(found.reshape(buffer.shape))
    elif isinstance(found, np.ndarray) and found.dtype == np.float16 and found.flags.c_contiguous:
        # PyTorch has the processor convert float16, four to eight times as fast as numpy does.
        _quietly()
        torch.from_numpy(buffer).copy_(torch.from_numpy(found).reshape(buffer.shape))
    else:
        np.copyto(buffer, np.asarray(found).reshape(buffer.shape))


@cache
def _quietly() -> None:
    """Swallow PyTorch's one warning that it was given an array it cannot write to: nobody writes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.from_numpy(np.frombuffer(b"read", dtype=np.uint8))


def sample(items: NDArray[Any], at_most: int, rng: np.random.Generator) -> NDArray[Any]:
    """Sample at most so many of the items, uniformly and in no order.

    Of very many they are found without a shuffle of all.
    """
    if len(items) > SHUFFLED and at_most < len(items):
        return np.asarray(items[rng.choice(len(items), at_most, replace=False, shuffle=False)])
    return np.asarray(rng.permutation(items)[:at_most])


def release_pages(rows: Rows, block: slice | None = None) -> None:
    """Give the pages of a read-only memory map back, all or those of a block: other rows have none.

    The system keeps them at hand as its cache, and they are no longer this process's memory.
    """
    if not (isinstance(rows, np.memmap) and rows.mode == "r" and rows.flags.c_contiguous and len(rows)):
        return
    mapped: mmap.mmap | None = getattr(rows, "_mmap", None)
    if mapped is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    block = block or slice(0, len(rows))
    begin = rows.ctypes.data - np.frombuffer(mapped, dtype=np.uint8).ctypes.data
    row_bytes = rows.nbytes // len(rows)
    first = -(-(begin + block.start * row_bytes) // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (begin + block.stop * row_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)
