"""How many threads numerical libraries take: one for tiny products, never more than there are cores to run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any, TypeVar

import torch
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

Item = TypeVar("Item")

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


def on_each_core(work: Callable[[Item], None], items: Sequence[Item], *, most: int | None = None) -> None:
    """Call `work` with every item, on as many threads as PyTorch may use, at most `most`.

    Each thread works alone: BLAS and OpenMP do not share its work out, so none waits for another, also on busy
    cores. On two of those the same scoring took 0.1 s so, and 1 to 7 s with threads inside each step.
    """
    threads = min(torch.get_num_threads(), len(items), len(items) if most is None else most)
    with single_threaded():
        if threads <= 1:
            for item in items:
                work(item)
            return
        with ThreadPoolExecutor(threads, initializer=_work_alone) as pool:
            list(pool.map(work, items))


def _work_alone() -> None:
    torch.get_num_threads()  # sets this thread's number, which is then ours to change
    _controller().select(user_api="openmp").limit(limits=1)


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
