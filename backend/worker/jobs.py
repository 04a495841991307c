"""What sets the trainer to work: webhooks on disk, requests of other processes, and the clock.

A webhook is one row in the store (`Events`), and that is the only queue it passes: the trainer looks for such rows
many times a second and catches up with their projects (`watch`). Requests lie beside them and may be lost. The
trainer is the one process of a machine that embeds and trains; where several machines serve one Label Studio, their
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
"""How long whoever stops a trainer in threads waits for the jobs at hand."""


class Jobs:
    """Asks the trainer of this process or another to work, and is where it does.

    Args:
        url: The database that holds requests; every process that shares it shares them.
        work: Returns what does the jobs; only called where a trainer runs.
        redis_url: Where the trainers of several machines claim projects; empty for one machine.

    Raises:
        StorageError: a Redis is named and its client is not installed, or the database cannot be used.
    """

    def __init__(self, url: str, work: Callable[[], Work], redis_url: str = "") -> None:
        self._work = work
        self._requests = Requests(url)
        self._claims: Claims = _in_redis(redis_url) if redis_url else LocalClaims()

    def learn(self, project_id: int) -> None:
        """Ask the trainer to catch up with a project; return at once."""
        self._requests.add(project_id)

    def embed(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Ask for embeddings ahead of everything else; returns at once."""
        if task_ids:
            self._requests.add(project_id, task_ids)

    def waiting(self) -> int:
        """Return how many requests nobody has taken yet."""
        return self._requests.count()

    def check_claims(self) -> None:
        """Check that trainers can claim projects.

        Raises:
            StorageError: Redis does not answer.
        """
        with _named():
            self._claims.check()

    def run_trainer(self) -> None:
        """Work until the process is asked to stop (SIGINT or SIGTERM); the jobs at hand are finished."""
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
        """Work in threads of this process; returns what stops them."""
        watch = Watch(self._work(), self._requests, self._claims)
        watch.start()
        return lambda: watch.stop(STOP_SECONDS)


def _in_redis(url: str) -> SharedClaims:
    try:
        from redis import ConnectionPool, Redis  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise StorageError("EVERYLABEL_REDIS_URL needs redis: pip install 'everylabel[redis]'") from error
    # A Redis whose machine has gone away must not hold up the trainer for minutes.
    patience = {"socket_connect_timeout": REDIS_SECONDS, "socket_timeout": REDIS_SECONDS}
    return SharedClaims(
        Redis(connection_pool=ConnectionPool.from_url(url, health_check_interval=30, **patience))
    )


@contextmanager
def _named() -> Iterator[None]:
    """Say what it means where Redis fails."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] != "redis":
            raise
        raise StorageError(f"Redis, in which trainers claim projects, does not answer ({error}).") from error
