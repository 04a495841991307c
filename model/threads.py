"""How many threads numerical libraries take: one for tiny products, never more than there are cores to run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import torch
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

_lock = Lock()
_inside = 0
_limiter: Any = None


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep BLAS and OpenMP to one thread inside; for problems so small that threads only wait for each other.

    A fit at 100 labels is thousands of products of microseconds each. On two busy cores, where BLAS threads spin for
    a core they do not get, that was measured at 5 to 20 s a round instead of 0.2 s. The limit is the process's, so
    the first to enter sets it and the last to leave lifts it.
    """
    global _inside, _limiter  # noqa: PLW0603 - the thread pools are global too
    with _lock:
        if _inside == 0:
            _limiter = _controller().limit(limits=1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limiter.restore_original_limits()


def limit_threads(n: int) -> None:
    """Give BLAS, OpenMP and PyTorch at most `n` threads from now on.

    They count the machine's cores when they are loaded. Kept to fewer afterwards, their threads spin for each other:
    a round of 0.4 s took 0.6 to 4 s on one core with two threads.
    """
    _controller().limit(limits=n)
    torch.set_num_threads(n)


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
