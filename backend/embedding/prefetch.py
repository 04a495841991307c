"""A stage of a pipeline: an iterable consumed in a thread of its own, a bounded number of items ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from threading import Condition, Thread
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """An iterator that fetches its items in another thread, a few ahead of the consumer.

    An error of the iterable is raised to the consumer, after the items that came before it. `close`, or leaving the
    `with` block, ends the thread and closes a generator, even if items are left.

    Args:
        items: The iterable; it is consumed once, in the thread.
        limit: How many items may be ready that nobody has taken yet.
        name: The name of the thread.
    """

    def __init__(self, items: Iterable[T], limit: int, name: str) -> None:
        self._limit = limit
        self._held: deque[T] = deque()
        self._changed = Condition()
        self._ended = False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, args=(items,), name=name, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._held or self._ended)
            if self._held:
                self._changed.notify_all()
                return self._held.popleft()
            if self._error is not None:
                raise self._error
        raise StopIteration

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stop(self) -> None:
        """Drop the remaining items, and wake the threads that wait on either side."""
        with self._changed:
            self._ended = True
            self._held.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop, and wait until the thread has ended."""
        self.stop()
        self._thread.join()

    def _run(self, items: Iterable[T]) -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not self._give(item):
                    break
            if isinstance(items, Generator):
                items.close()
        except BaseException as found:  # noqa: BLE001 - raised again in the thread that takes the items
            error = found
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()

    def _give(self, item: T) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: len(self._held) < self._limit or self._ended)
            if self._ended:
                return False
            self._held.append(item)
            self._changed.notify_all()
            return True
