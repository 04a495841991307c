"""Work on several batches at a time; their results in the order they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Do `work` on items in threads, one more item waiting than there are threads; results in the items' order."""
    running: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="encoder") as pool:
        for item in items:
            running.append(pool.submit(work, item))
            while running and (running[0].done() or len(running) > threads):
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
