"""A stage of a pipeline: an iterable that is run through in a thread of its own, a bounded way ahead of its taker."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from threading import Condition, Thread
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Iterates in another thread, and holds at most `limit` items nobody has taken yet.

    An error of the iterable is raised to the taker, after the items that came before it. Left early, by `close` or
    by leaving the `with`, the thread ends and the iterable with it.
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

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stop(self) -> None:
        """Let nothing more come, and let go who waits on either side."""
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
