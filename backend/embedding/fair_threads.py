"""Share a few threads fairly among projects: each gets its turn, and one that only waits holds up no other."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from everylabel.backend.storage_failures import log_failure

log = logging.getLogger(__name__)

AT_ONCE = 16
"""The most turns that run at a time. At that number, most of them wait for a host of images."""
BUSY_AT_ONCE = 2
"""The most turns that are busy at a time: they take processor time from rounds."""
BUSY_SECONDS = 2.0
"""A turn that takes longer is waiting for something, and no longer counts as busy."""
KEPT_FREE = 4
"""How many turns are reserved for projects whose last turn was short."""


class FairThreads:
    """Threads that run turns of work in the order of the requests, one at a time for each project.

    Args:
        name: The name of the threads.
        work: Runs one turn of a project. Returns None if nothing is left to do, or the seconds until the next turn;
            at 0 the project goes to the end of the queue.
        ended: Called with the project when it has no turns left.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[int], float | None],
        ended: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._name = name
        self._work = work
        self._ended = ended
        self._changed = threading.Condition()
        self._queue: dict[int, None] = {}
        self._running: dict[int, float] = {}
        self._again: set[int] = set()
        self._pausing: dict[int, threading.Timer] = {}
        self._slow: set[int] = set()
        self._stopping = False

    def request(self, project_id: int) -> None:
        """Ask for turns of a project; return at once."""
        with self._changed:
            if project_id in self._running:
                self._again.add(project_id)
            elif project_id not in self._pausing and not self._stopping:
                self._queue.setdefault(project_id)
        self._dispatch()

    def is_active(self, project_id: int) -> bool:
        """Return whether a project has a turn or waits for one."""
        with self._changed:
            return any(project_id in them for them in (self._queue, self._running, self._pausing))

    def has_others(self, project_id: int) -> bool:
        """Return whether other projects have turns or wait for them, so that a long turn should end."""
        with self._changed:
            return self._stopping or any(id_ != project_id for id_ in (*self._queue, *self._running))

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until no project has anything left to do, and return whether that happened in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._queue or self._running or self._pausing), timeout=seconds
            )

    def stop(self, seconds: float) -> None:
        """Begin no more turns, and wait for the running ones, for at most `seconds`."""
        with self._changed:
            self._stopping = True
            self._queue.clear()
            self._again.clear()
            for timer in self._pausing.values():
                timer.cancel()
            self._pausing.clear()
            self._changed.wait_for(lambda: not self._running, timeout=seconds)
            self._stopping = False

    def _dispatch(self) -> None:
        """Start the turns that may run now."""
        with self._changed:
            while (project_id := self._next()) is not None:
                del self._queue[project_id]
                self._running[project_id] = time.monotonic()
                threading.Thread(
                    target=self._run, args=(project_id,), name=f"{self._name} {project_id}", daemon=True
                ).start()

    def _next(self) -> int | None:
        since = time.monotonic() - BUSY_SECONDS
        if len(self._running) >= AT_ONCE or sum(at > since for at in self._running.values()) >= BUSY_AT_ONCE:
            return None
        slow = sum(project_id in self._slow for project_id in self._running)
        for project_id in self._queue:
            if project_id not in self._slow or slow < AT_ONCE - KEPT_FREE:
                return project_id
        return None

    def _run(self, project_id: int) -> None:
        late = threading.Timer(BUSY_SECONDS + 0.01, self._dispatch)
        late.daemon = True
        late.start()
        started, pause = time.monotonic(), None
        try:
            pause = self._work(project_id)
        except Exception as error:  # noqa: BLE001 - `log_failure` logs it
            log_failure(log, error, "project %s: a turn of %s failed", project_id, self._name)
        finally:
            late.cancel()
            self._end(project_id, pause, time.monotonic() - started)

    def _end(self, project_id: int, pause: float | None, took: float) -> None:
        with self._changed:
            del self._running[project_id]
            (self._slow.add if took > BUSY_SECONDS else self._slow.discard)(project_id)
            again = project_id in self._again
            self._again.discard(project_id)
            if not self._stopping:
                if pause:
                    timer = threading.Timer(pause, self._resume, args=(project_id,))
                    timer.daemon = True
                    self._pausing[project_id] = timer
                    timer.start()
                elif pause is not None or again:
                    self._queue[project_id] = None
            active = project_id in self._queue or project_id in self._pausing
        if not active:
            with suppress(Exception):
                self._ended(project_id)
        with self._changed:
            self._changed.notify_all()
        self._dispatch()

    def _resume(self, project_id: int) -> None:
        with self._changed:
            if self._pausing.pop(project_id, None) is not None and not self._stopping:
                self._queue[project_id] = None
        self._dispatch()
