"""One BLAS thread for the many tiny products of a round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

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


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
