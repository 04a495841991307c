"""Jobs of the trainer: they are due to webhooks on disk, to requests of other processes, and to the clock.

A webhook is one row in the store (`Events`), and that is the only queue it passes: the trainer reads these rows many
times a second and catches up with their projects (`watch`). Requests are stored beside them and may be lost. The
trainer is the one process of a machine that embeds and trains; if several machines serve one Label Studio, their
trainers claim projects through Redis.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from everylabel.backend.store import StorageError
from everylabel.backend.store.requests import Requests
from everylabel.backend.worker.backoff import Claims, LocalClaims, SharedClaims
from everylabel.backend.worker.watch import Watch, Work

REDIS_SECONDS = 10
STOP_SECONDS = 30.0
"""How long stopping a trainer in threads waits for the running jobs."""


class Jobs:
    """Requests to the trainer, and the trainer itself in the process that runs it.

    Args:
        url: The database of requests, shared by every process that uses it.
        work: Returns what does the jobs; only called where a trainer runs.
        redis_url: The Redis in which the trainers of several machines claim projects; empty for one machine.

    Raises:
        StorageError: The client of Redis is not installed, or the database cannot be used.
    """

    def __init__(self, url: str, work: Callable[[], Work], redis_url: str = "") -> None:
        self._work = work
        self._requests = Requests(url)
        self._claims: Claims = _in_redis(redis_url) if redis_url else LocalClaims()

    def learn(self, project_id: int) -> None:
        """Ask the trainer to catch up with a project; return at once."""
        self._requests.add(project_id)

    def embed(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Ask the trainer to embed these tasks' crops ahead of everything else; return at once."""
        if task_ids:
            self._requests.add(project_id, task_ids)

    def longest_wait(self) -> float:
        """Return for how many seconds the oldest request has waited that the trainer has not taken."""
        return self._requests.longest_wait()

    def waiting(self) -> int:
        """Return how many requests the trainer has not taken yet."""
        return self._requests.count()

    def check_claims(self) -> None:
        """Check that trainers can claim projects.

        Raises:
            StorageError: Redis does not answer.
        """
        with _named():
            self._claims.check()

    def run_trainer(self) -> None:
        """Work until the process is asked to stop (SIGINT or SIGTERM), and finish the running jobs."""
        asked = threading.Event()
        signals = (signal.SIGINT, signal.SIGTERM)
        former = {number: signal.signal(number, lambda *_: asked.set()) for number in signals}
        watch = Watch(self._work(), self._requests, self._claims)
        watch.start()
        try:
            asked.wait()
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)  # a second signal ends the process at once
            watch.stop()

    def start_trainer_thread(self) -> Callable[[], None]:
        """Work in threads of this process.

        Returns:
            A function that stops them.
        """
        watch = Watch(self._work(), self._requests, self._claims)
        watch.start()
        return lambda: watch.stop(STOP_SECONDS)


def _in_redis(url: str) -> SharedClaims:
    try:
        from redis import ConnectionPool, Redis  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise StorageError("EVERYLABEL_REDIS_URL needs redis: pip install 'everylabel[redis]'") from error
    # A Redis whose machine is unreachable must not hold up the trainer for minutes.
    patience = {"socket_connect_timeout": REDIS_SECONDS, "socket_timeout": REDIS_SECONDS}
    return SharedClaims(
        Redis(connection_pool=ConnectionPool.from_url(url, health_check_interval=30, **patience))
    )


@contextmanager
def _named() -> Iterator[None]:
    """Raise the errors of Redis as a `StorageError` that explains them."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] != "redis":
            raise
        raise StorageError(f"Redis, in which trainers claim projects, does not answer ({error}).") from error
