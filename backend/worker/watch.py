"""The loop of the trainer: find waiting projects, claim them, and work on them in two threads."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import chain, zip_longest
from queue import SimpleQueue
from typing import Protocol

from everylabel.backend.storage_failures import log_failure
from everylabel.backend.store.requests import Request, Requests
from everylabel.backend.worker.backoff import Claims

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.03
LOOK_ANYWAY_SECONDS = 1.0
"""After this long the watch looks for work though nobody has written anything: what waits for its time writes nothing."""
LINE_SECONDS = 0.25
"""The same where projects are in the line, perhaps for the end of their pause."""
MAINTENANCE_SECONDS = 60.0
JOBS_AT_A_TIME = 2
"""Two, so that a round does not wait for another project's. These jobs never embed."""


class Work(Protocol):
    """The jobs that the watch starts; `everylabel.backend.worker.trainer.Trainer` implements them."""

    def has_changed(self) -> bool:
        """Return whether more may be waiting than at the last call; called many times a second, by one thread."""

    def waiting(self) -> Sequence[int]:
        """Return the projects with waiting webhooks; called many times a second while there is work."""

    def only_to_sync(self) -> Collection[int]:
        """Return the projects that wait for a sync and for nothing else, so that nobody's label waits."""

    def learn(self, project_id: int) -> bool:
        """Catch up with a project and run a round if one is due; return False if that has to be tried again."""

    def embed(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Have these tasks' crops embedded if they are not; return at once."""

    def stop(self) -> None:
        """Begin nothing more, because the process ends."""

    def overdue(self) -> Sequence[int]:
        """Return the projects that need a sync; called once a minute."""

    def run_maintenance(self, is_stopping: Callable[[], bool]) -> None:
        """Run the maintenance of once a minute, which may take minutes; end early once the process is to stop."""


class Watch:
    """The threads of a trainer: one that watches for work, two that do it, and one for maintenance.

    A project is begun when a thread is free and the project can be claimed. Projects wait in line, so that none waits
    forever behind two that always have webhooks. Those that only wait for a sync have a line of their own, and the two
    take turns: after a restart all projects are compared with Label Studio, and a label does not wait for that.

    Args:
        work: Does the jobs.
        requests: The requests of other processes.
        claims: Claims on projects, and pauses after failures.
    """

    def __init__(self, work: Work, requests: Requests, claims: Claims) -> None:
        self._work, self._requests, self._claims = work, requests, claims
        self._stopping = threading.Event()
        self._overdue: SimpleQueue[int] = SimpleQueue()
        """Projects that maintenance has found to need a sync."""
        self._due: set[int] = set()
        """The same, known to the thread that watches."""
        self._line: list[int] = []
        """Projects that cannot begin yet; the one that has waited longest comes first."""
        self._begun: SimpleQueue[int | None] = SimpleQueue()
        self._running: set[int] = set()
        self._look_at = 0.0
        """When the watch looks though nothing has changed, by the monotonic clock; 0 where it has to now."""
        self._begun_to_sync = False
        """Whether the last project that was begun only waited for a sync."""
        self._free = threading.Semaphore(JOBS_AT_A_TIME)
        self._watchers = [
            threading.Thread(target=self._watch, name="webhooks", daemon=True),
            threading.Thread(target=self._maintain, name="maintenance", daemon=True),
        ]
        self._workers = [
            threading.Thread(target=self._work_off, name=f"trainer {number}", daemon=True)
            for number in range(1, JOBS_AT_A_TIME + 1)
        ]

    def start(self) -> None:
        """Start the threads, and sync the projects that need it first. No round waits for maintenance."""
        self._due.update(self._work.overdue())
        for thread in (*self._watchers, *self._workers):
            thread.start()

    def stop(self, seconds: float | None = None) -> None:
        """Begin nothing more, and wait for the running jobs, for at most `seconds` if given."""
        self._stopping.set()
        until = None if seconds is None else time.monotonic() + seconds
        for thread in self._watchers:
            _join(thread, until)
        for _ in self._workers:
            self._begun.put(None)
        for thread in self._workers:
            _join(thread, until)
        self._work.stop()

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH_SECONDS):
            if not self._must_look():
                continue
            self._look_at = time.monotonic() + LOOK_ANYWAY_SECONDS
            if not _tried("watching for webhooks", self._begin_due):
                self._look_at = 0.0
                self._stopping.wait(1.0)
            elif self._line:
                self._look_at = min(self._look_at, time.monotonic() + LINE_SECONDS)

    def _must_look(self) -> bool:
        # A project in the line waits for a thread, which says when it is free, or for the end of its pause.
        changed = [self._requests.has_changed(), self._work.has_changed()]  # each has to look
        return any(changed) or not self._overdue.empty() or time.monotonic() >= self._look_at

    def _maintain(self) -> None:
        _tried("maintenance", self._clean)  # what is overdue is known from the start
        while not self._stopping.wait(MAINTENANCE_SECONDS):
            _tried("maintenance", self._sync_and_clean)

    def _clean(self) -> None:
        if self._claims.may_run_maintenance():
            self._work.run_maintenance(self._stopping.is_set)

    def _sync_and_clean(self) -> None:
        if self._claims.may_run_maintenance():
            for project_id in self._work.overdue():
                self._overdue.put(project_id)
            self._work.run_maintenance(self._stopping.is_set)

    def _begin_due(self) -> None:
        """Pass requests for embeddings on, and begin as many waiting projects as possible."""
        requests = self._requests.waiting()
        self._embed([request for request in requests if request.task_ids])
        asked: dict[int, list[int]] = defaultdict(list)
        for request in requests:
            if not request.task_ids:
                asked[request.project_id].append(request.id)
        while not self._overdue.empty():
            self._due.add(self._overdue.get())
        waiting = self._work.waiting()
        wanted = dict.fromkeys([*sorted(self._due), *asked, *waiting])
        line = dict.fromkeys(project_id for project_id in self._line if project_id in wanted) | wanted
        self._line = [project_id for project_id in line if project_id not in self._running]
        for project_id, to_sync in self._in_turns({*asked, *waiting}):
            if not self._free.acquire(blocking=False):
                return
            begun = False
            try:
                begun = self._begin(project_id, asked.get(project_id, []))
            finally:
                if not begun:
                    self._free.release()
            if begun:
                self._begun_to_sync = to_sync

    def _in_turns(self, asked_for: Collection[int]) -> list[tuple[int, bool]]:
        """Return the line, a project that only waits for a sync after each other one, and which are of these."""
        if len(self._line) < 2:
            return [(project_id, False) for project_id in self._line]
        syncs = {*self._work.only_to_sync()} | (self._due - {*asked_for})
        one = [(project_id, False) for project_id in self._line if project_id not in syncs]
        other = [(project_id, True) for project_id in self._line if project_id in syncs]
        turns = zip_longest(one, other) if self._begun_to_sync else zip_longest(other, one)
        return [turn for turn in chain.from_iterable(turns) if turn is not None]

    def _embed(self, requests: Sequence[Request]) -> None:
        taken = self._requests.take([request.id for request in requests])
        for request in requests:
            if request.id in taken:
                self._work.embed(request.project_id, request.task_ids)

    def _begin(self, project_id: int, request_ids: Sequence[int]) -> bool:
        """Give a project to a thread and drop the requests for it; return False if it cannot be claimed."""
        if not self._claims.take(project_id):
            return False
        try:
            self._requests.take(request_ids)
        except BaseException:
            self._claims.release(project_id, caught_up=False)
            raise
        self._line.remove(project_id)
        self._due.discard(project_id)
        self._running.add(project_id)
        self._begun.put(project_id)
        return True

    def _work_off(self) -> None:
        while (project_id := self._begun.get()) is not None:
            _tried(f"a job of project {project_id}", partial(self._catch_up, project_id))
            self._running.discard(project_id)
            self._free.release()
            self._look_at = 0.0  # what has come meanwhile waited for this job to end

    def _catch_up(self, project_id: int) -> None:
        caught_up = False
        try:
            caught_up = self._work.learn(project_id)
        finally:
            self._claims.release(project_id, caught_up)


def _tried(what: str, do: Callable[[], object]) -> bool:
    """Do something and return whether it succeeded; a failure is logged.

    The caller tries again: a full disk or an unreachable Redis must not end a thread for good.
    """
    try:
        do()
    except Exception as error:  # noqa: BLE001 - `log_failure` logs it
        log_failure(log, error, "%s failed", what)
        return False
    return True


def _join(thread: threading.Thread, until: float | None) -> None:
    thread.join(None if until is None else max(0.0, until - time.monotonic()))
