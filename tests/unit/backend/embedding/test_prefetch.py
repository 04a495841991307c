"""Stages of a pipeline: bounded, in order, and gone when they are left."""

from __future__ import annotations

import threading

import pytest

from everylabel.backend.embedding.cache import Cache
from everylabel.backend.embedding.prefetch import Prefetch


def test_items_come_in_order_and_never_more_than_the_limit_ahead():
    begun, taken, most = [], 0, 0

    def numbers():
        for i in range(200):
            begun.append(i)
            yield i

    with Prefetch(numbers(), 3, "numbers") as items:
        for expected, item in enumerate(items):
            assert item == expected
            taken += 1
            most = max(most, len(begun) - taken)
    assert taken == 200
    assert most <= 4, "three wait, one is being made"


def test_an_error_comes_after_the_items_before_it():
    def numbers():
        yield 1
        raise ValueError("torn")

    items = Prefetch(numbers(), 5, "numbers")
    assert next(items) == 1
    with pytest.raises(ValueError, match="torn"):
        next(items)


def test_left_early_the_thread_ends_and_so_does_what_it_iterates():
    ended = threading.Event()

    def numbers():
        try:
            while True:
                yield 0
        finally:
            ended.set()

    with Prefetch(numbers(), 2, "endless") as items:
        next(items)
    assert ended.is_set()
    assert "endless" not in [thread.name for thread in threading.enumerate()]


def test_what_several_threads_ask_for_at_once_is_made_once():
    made, together = [], threading.Barrier(4)
    cache = Cache[str](10, lambda _: 1)

    def ask():
        together.wait()
        cache.get("picture", lambda: made.append(1) or "pixels")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_what_was_asked_for_longest_ago_is_dropped_over_the_budget():
    made = []
    cache = Cache[str](10, len)
    for key in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa", "bbbb"):
        assert cache.get(key, lambda key=key: made.append(key) or key) == key
    assert made == ["aaaa", "bbbb", "cccc", "bbbb"]
