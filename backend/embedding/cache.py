"""A cache within a budget that makes each value once, however many threads ask for it at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Cache(Generic[T]):
    """A cache of the values used most recently. Safe to share between threads.

    Args:
        budget: The largest total weight of the values kept; the value used last is kept whatever its weight.
        weight: Returns the weight of a value, such as its size in bytes; above 0.
    """

    def __init__(self, budget: int, weight: Callable[[T], int]) -> None:
        self._budget = budget
        self._weight = weight
        self._total = 0
        self._lock = Lock()
        self._entries: OrderedDict[str, _Entry[T]] = OrderedDict()

    def get(self, key: str, make: Callable[[], T]) -> T:
        """Return the value of a key, which is made if it is not cached; other threads that ask for it wait.

        Args:
            key: The key.
            make: Makes the value. What it raises is raised here, and nothing is cached.

        Returns:
            The cached value, or the one just made.
        """
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
        with entry.lock:
            if not entry.made:
                entry.made.append(make())
                self._count(key, entry)
        return entry.made[0]

    def _count(self, key: str, entry: _Entry[T]) -> None:
        with self._lock:
            if self._entries.get(key) is entry:
                entry.weight = self._weight(entry.made[0])
                self._total += entry.weight
            while self._total > self._budget and len(self._entries) > 1:
                _, oldest = self._entries.popitem(last=False)
                self._total -= oldest.weight


class _Entry(Generic[T]):
    def __init__(self) -> None:
        self.lock = Lock()
        self.made: list[T] = []
        self.weight = 0
