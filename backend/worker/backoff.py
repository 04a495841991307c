"""Claims on projects, and backoff after failures: in one process, or among several machines."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from redis import Redis

LONGEST_PAUSE_SECONDS = 30.0
CLAIM_SECONDS = 10.0
"""How long a claim lasts that is not released, because its machine was killed, for example.

If a round takes longer, another machine claims the project, and finds its lock taken.
"""
FAILURES_KEPT_SECONDS = 3600
MAINTENANCE_SECONDS = 50.0


class Claims(Protocol):
    """Claims on projects, and pauses after failures."""

    def take(self, project_id: int) -> bool:
        """Claim a project, and return whether that worked: not while it is claimed or has to wait."""

    def release(self, project_id: int, caught_up: bool) -> None:
        """Release a project; after a failure it has to wait, twice as long each time."""

    def may_run_maintenance(self) -> bool:
        """Return whether the caller is the one to run this minute's maintenance."""

    def check(self) -> None:
        """Check that projects can be claimed."""


class LocalClaims:
    """The claims of a single trainer, kept in its memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._failures: dict[int, int] = {}
        self._not_before: dict[int, float] = {}

    def take(self, project_id: int) -> bool:
        """Claim a project, and return whether that worked: not while it is claimed or has to wait."""
        with self._lock:
            if project_id in self._running or time.monotonic() < self._not_before.get(project_id, 0.0):
                return False
            self._running.add(project_id)
            return True

    def release(self, project_id: int, caught_up: bool) -> None:
        """Release a project; after a failure it has to wait, twice as long each time."""
        with self._lock:
            self._running.discard(project_id)
            if caught_up:
                self._failures.pop(project_id, None)
                self._not_before.pop(project_id, None)
                return
            failures = self._failures[project_id] = self._failures.get(project_id, 0) + 1
            self._not_before[project_id] = time.monotonic() + _pause(failures)

    def may_run_maintenance(self) -> bool:
        """Return whether the caller is the one to run this minute's maintenance: always, there is no other trainer."""
        return True

    def check(self) -> None:
        """Do nothing: a single trainer can always claim."""


class SharedClaims:
    """The claims of several trainers, kept in Redis.

    Args:
        redis: A Redis client.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def take(self, project_id: int) -> bool:
        """Claim a project, and return whether that worked: not while it is claimed or has to wait."""
        return self._claim(f"project:{project_id}", CLAIM_SECONDS)

    def release(self, project_id: int, caught_up: bool) -> None:
        """Release a project; after a failure it has to wait, twice as long each time."""
        claim, failed = f"everylabel:project:{project_id}", f"everylabel:failures:{project_id}"
        if caught_up:
            self._redis.delete(claim, failed)
            return
        failures = int(self._redis.incr(failed))
        self._redis.expire(failed, FAILURES_KEPT_SECONDS)
        self._redis.set(claim, 1, px=int(1000 * _pause(failures)))

    def may_run_maintenance(self) -> bool:
        """Return whether the caller is the one to run this minute's maintenance, and no other machine."""
        return self._claim(
            "tend", MAINTENANCE_SECONDS
        )  # the key of earlier versions, which may run beside this one

    def check(self) -> None:
        """Check that Redis answers.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        self._redis.ping()

    def _claim(self, what: str, seconds: float) -> bool:
        return bool(self._redis.set(f"everylabel:{what}", 1, nx=True, px=int(1000 * seconds)))


def _pause(failures: int) -> float:
    return min(LONGEST_PAUSE_SECONDS, 0.1 * 2.0 ** min(failures, 20))
