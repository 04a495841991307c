"""What sets the trainer to work: webhooks on disk, crops `/predict` waits for, and the clock.

What must not be lost is an event row in the store, and the trainer watches those by itself: a webhook costs one
write. A job here only says "look at project 7", so it may be lost, repeated or late, and the next one catches
up. The trainer is the one process that embeds and trains.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from huey import SqliteHuey, crontab
from huey.consumer import Consumer
from huey.registry import Message
from huey.serializer import Serializer

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.03
LONGEST_PAUSE_SECONDS = 30.0


class Work(Protocol):
    """What the trainer does; `backend.trainer.Trainer` is it."""

    def waiting(self) -> Sequence[int]:
        """Projects that have webhooks waiting; asked many times a second."""

    def learn(self, project_id: int) -> bool:
        """Catch up with a project and run a round if one is due; False if that has to be tried again."""

    def embed(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Embed these tasks' crops if they are not."""

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
    """Durable jobs in a SQLite file, worked by a trainer in this process or another.

    Args:
        path: the file; every process that shares it shares the queue.
        work: does the jobs; only needed where a trainer runs.
    """

    def __init__(self, path: Path, work: Callable[[], Work]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._work = work
        self._attempts = _Attempts()
        self._huey = SqliteHuey("everylabel", filename=str(path), serializer=JsonSerializer(), results=False)

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
            for project_id in self._work().tend():
                learn(project_id)

        self._learn, self._embed = learn, embed

    def learn(self, project_id: int) -> None:
        """Ask for a look at a project; returns at once."""
        self._learn(project_id)

    def embed(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Ask for embeddings ahead of everything else; returns at once."""
        self._embed(project_id, list(task_ids))

    def waiting(self) -> int:
        """How many jobs nobody has taken yet."""
        return int(self._huey.pending_count())

    def run_trainer(self) -> None:
        """Work jobs until the process is asked to stop (SIGINT or SIGTERM)."""
        stopping = self._start_watching()
        try:
            self._consumer(Consumer).run()
        finally:
            stopping.set()

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
        # Two threads: /predict's embeddings do not wait behind a round.
        return kind(
            self._huey, workers=2, initial_delay=0.02, max_delay=0.1, backoff=1.2, graceful_signal="TERM"
        )


class _Attempts:
    """Which projects are being looked at, and when one that failed may be tried again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._failures: dict[int, int] = {}
        self._not_before: dict[int, float] = {}

    def begin(self, project_id: int) -> bool:
        """Claim a project; False while it is claimed or has to wait."""
        with self._lock:
            if project_id in self._running or time.monotonic() < self._not_before.get(project_id, 0.0):
                return False
            self._running.add(project_id)
            return True

    def end(self, project_id: int, caught_up: bool) -> None:
        """Give a project free again; after a failure it waits, twice as long each time."""
        with self._lock:
            self._running.discard(project_id)
            if caught_up:
                self._failures.pop(project_id, None)
                self._not_before.pop(project_id, None)
                return
            failures = self._failures[project_id] = self._failures.get(project_id, 0) + 1
            pause = min(LONGEST_PAUSE_SECONDS, 0.1 * 2.0 ** min(failures, 20))
            self._not_before[project_id] = time.monotonic() + pause


class _ThreadConsumer(Consumer):  # type: ignore[misc]
    """A consumer outside the main thread, where no signal handlers can be set."""

    def _set_signal_handlers(self) -> None:
        pass
