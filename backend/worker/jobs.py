"""What sets the trainer to work: webhooks on disk, crops `/predict` waits for, and the clock.

What must not be lost is an event row in the store, and the trainer watches those by itself: a webhook costs one
write. A job here only says "look at project 7", so it may be lost, repeated or late, and the next one catches
up. The trainer is the one process of a machine that embeds and trains; where several machines serve one Label
Studio, their trainers share the jobs through Redis.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from huey import Huey, SqliteHuey, crontab
from huey.consumer import Consumer
from huey.registry import Message
from huey.serializer import Serializer

from everylabel.backend.store import StorageError
from everylabel.backend.worker.backoff import Attempts, LocalAttempts, SharedAttempts

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.03
REDIS_SECONDS = 10


class Work(Protocol):
    """What the trainer does; `everylabel.backend.worker.trainer.Trainer` is it."""

    def waiting(self) -> Sequence[int]:
        """Projects that have webhooks waiting; asked many times a second."""

    def learn(self, project_id: int) -> bool:
        """Catch up with a project and run a round if one is due; False if that has to be tried again."""

    def embed(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Have these tasks' crops embedded if they are not; returns at once."""

    def stop(self) -> None:
        """Begin nothing more: the process ends."""

    def tend(self) -> Sequence[int]:
        """Once a minute: clean up, and say which projects need a look."""


class JsonSerializer(Serializer):  # type: ignore[misc]
    """Jobs as JSON: huey pickles by default, and nothing here is ever unpickled."""

    def _serialize(self, data: Any) -> bytes:
        return json.dumps(data).encode()

    def _deserialize(self, data: bytes) -> Any:
        value = json.loads(data)
        return Message(*value) if isinstance(value, list) and len(value) == len(Message._fields) else value


class Jobs:
    """Jobs in a SQLite file or in Redis, worked by a trainer in this process or another.

    Args:
        path: the file; every process that shares it shares the queue.
        work: does the jobs; only needed where a trainer runs.
        redis_url: where they lie instead, for several machines.

    Raises:
        StorageError: a Redis is named and its client is not installed.
    """

    def __init__(self, path: Path, work: Callable[[], Work], redis_url: str = "") -> None:
        self._work = work
        self._huey, self._attempts = _in_redis(redis_url) if redis_url else _in_file(path)

        @self._huey.task(name="learn")  # type: ignore[untyped-decorator]
        def learn(project_id: int) -> None:
            caught_up = False
            try:
                caught_up = self._work().learn(project_id)
            finally:
                self._attempts.end(project_id, caught_up)

        @self._huey.task(name="embed", priority=10)  # type: ignore[untyped-decorator]
        def embed(project_id: int, task_ids: list[int]) -> None:
            self._work().embed(project_id, task_ids)

        @self._huey.periodic_task(crontab(minute="*"), name="tend")  # type: ignore[untyped-decorator]
        def tend() -> None:
            if self._attempts.may_tend():
                for project_id in self._work().tend():
                    learn(project_id)

        self._learn, self._embed = learn, embed

    def learn(self, project_id: int) -> None:
        """Ask for a look at a project; returns at once.

        Raises:
            StorageError: Redis does not answer.
        """
        with _named():
            self._learn(project_id)

    def embed(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Ask for embeddings ahead of everything else; returns at once.

        Raises:
            StorageError: Redis does not answer.
        """
        with _named():
            self._embed(project_id, list(task_ids))

    def waiting(self) -> int:
        """How many jobs nobody has taken yet.

        Raises:
            StorageError: Redis does not answer.
        """
        with _named():
            return int(self._huey.pending_count())

    def run_trainer(self) -> None:
        """Work jobs until the process is asked to stop (SIGINT or SIGTERM)."""
        stopping = self._start_watching()
        try:
            self._consumer(Consumer).run()
        finally:
            stopping.set()
            self._work().stop()

    def start_trainer_thread(self) -> Callable[[], None]:
        """Work jobs in threads of this process; returns what stops them."""
        stopping = self._start_watching()
        consumer = self._consumer(_ThreadConsumer)
        thread = threading.Thread(target=consumer.run, name="trainer", daemon=True)
        thread.start()

        def stop() -> None:
            stopping.set()
            consumer.stop(graceful=True)
            thread.join(timeout=30)
            self._work().stop()

        return stop

    def _start_watching(self) -> threading.Event:
        """Look for webhooks on disk until the event returned is set."""
        for project_id in self._work().tend():
            self._learn(project_id)
        stopping = threading.Event()

        def watch() -> None:
            while not stopping.wait(WATCH_SECONDS):
                self._look(stopping)

        threading.Thread(target=watch, name="webhooks", daemon=True).start()
        return stopping

    def _look(self, stopping: threading.Event) -> None:
        try:
            for project_id in self._work().waiting():
                if self._attempts.begin(project_id):
                    self._ask(project_id)
        except Exception:
            # Logged and tried again: a disk that is full now must not end the watch for good.
            log.exception("looking for webhooks failed")
            stopping.wait(1.0)

    def _ask(self, project_id: int) -> None:
        try:
            self._learn(project_id)
        except BaseException:
            self._attempts.end(project_id, caught_up=False)  # no job was made that would do it
            raise

    def _consumer(self, kind: type[Consumer]) -> Consumer:
        # Two threads, so that a round does not wait behind another project's. None of them ever embeds.
        return kind(
            self._huey, workers=2, initial_delay=0.02, max_delay=0.1, backoff=1.2, graceful_signal="TERM"
        )


def _in_file(path: Path) -> tuple[Huey, Attempts]:
    path.parent.mkdir(parents=True, exist_ok=True)
    huey = SqliteHuey("everylabel", filename=str(path), serializer=JsonSerializer(), results=False)
    return huey, LocalAttempts()


def _in_redis(url: str) -> tuple[Huey, Attempts]:
    try:
        from huey import PriorityRedisHuey  # noqa: PLC0415 - an extra
        from redis import ConnectionPool  # noqa: PLC0415
    except ImportError as error:
        raise StorageError("EVERYLABEL_REDIS_URL needs redis: pip install 'everylabel[redis]'") from error
    # A Redis whose machine has gone away must not hold up the web server for minutes.
    patience = {"socket_connect_timeout": REDIS_SECONDS, "socket_timeout": REDIS_SECONDS}
    pool = ConnectionPool.from_url(url, health_check_interval=30, **patience)
    huey = PriorityRedisHuey("everylabel", connection_pool=pool, serializer=JsonSerializer(), results=False)
    return huey, SharedAttempts(huey.storage.conn)


@contextmanager
def _named() -> Iterator[None]:
    """Say what it means where Redis fails: a file fails as the store beside it does."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] != "redis":
            raise
        raise StorageError(f"Redis, which holds the backend's jobs, does not answer ({error}).") from error


class _ThreadConsumer(Consumer):  # type: ignore[misc]
    """A consumer outside the main thread, where no signal handlers can be set."""

    def _set_signal_handlers(self) -> None:
        pass
