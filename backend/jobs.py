"""The queue between a webhook and a round.

What must not be lost is an event row in the store; a job here only says "look at project 7". So a job may be
lost, repeated or late, and the next one catches up. The trainer is the one process that embeds and trains.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from huey import SqliteHuey, crontab
from huey.consumer import Consumer
from huey.registry import Message
from huey.serializer import Serializer

log = logging.getLogger(__name__)


class Work(Protocol):
    """What the trainer does; `backend.services.Services` is it."""

    def learn(self, project_id: int) -> None:
        """Catch up with a project and run a round if one is due."""

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
        self._huey = SqliteHuey("everylabel", filename=str(path), serializer=JsonSerializer(), results=False)

        @self._huey.task(name="learn")  # type: ignore[untyped-decorator]
        def learn(project_id: int) -> None:
            self._work().learn(project_id)

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
        self._catch_up()
        self._consumer(Consumer).run()

    def start_trainer_thread(self) -> Callable[[], None]:
        """Work jobs in threads of this process; returns what stops them."""
        self._catch_up()
        consumer = self._consumer(_ThreadConsumer)
        thread = threading.Thread(target=consumer.run, name="trainer", daemon=True)
        thread.start()

        def stop() -> None:
            consumer.stop(graceful=True)
            thread.join(timeout=30)

        return stop

    def _catch_up(self) -> None:
        for project_id in self._work().tend():
            self._learn(project_id)

    def _consumer(self, kind: type[Consumer]) -> Consumer:
        # Two threads: /predict's embeddings do not wait behind a round.
        return kind(
            self._huey, workers=2, initial_delay=0.02, max_delay=0.1, backoff=1.2, graceful_signal="TERM"
        )


class _ThreadConsumer(Consumer):  # type: ignore[misc]
    """A consumer outside the main thread, where no signal handlers can be set."""

    def _set_signal_handlers(self) -> None:
        pass
