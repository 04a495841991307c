"""The threads in which the trainer embeds, slice by slice, so that no job and no project waits for a host.

Two lanes share the work. One embeds the missing crops of pools, a slice of each project in turn. The other embeds the
few crops that a call of `/predict` waits for. What is done is in the store, and what is left follows from it, so what is
in memory here may be lost: the next comparison with Label Studio asks for it again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from filelock import Timeout

from everylabel.backend import logs
from everylabel.backend.embedding.embeddings import EncoderError
from everylabel.backend.embedding.fair_threads import FairThreads
from everylabel.backend.embedding.hosts import Hosts
from everylabel.backend.embedding.passes import PoolGoneError
from everylabel.backend.embedding.problems import unexpected
from everylabel.backend.store import Task, faults

if TYPE_CHECKING:
    from everylabel.backend.embedding.passes import PoolEmbedding
    from everylabel.backend.embedding.problems import EmbeddingProblems
    from everylabel.backend.store import Store
    from everylabel.backend.store.embeddings import TasksToEmbed
    from everylabel.backend.store.files import ProjectFiles

log = logging.getLogger(__name__)

SLICE_SECONDS = 1.0
"""After this time a slice takes no more crops, if another project has crops to embed."""
ALONE_SECONDS = 15.0
"""The same, if no other project has."""
FIRST_CROPS = 32
MOST_CROPS = 8192
GROWTH = 4
"""The most by which a slice grows over the last: the speed of a host is found out with few crops."""
LOCKED_SECONDS = 0.5
"""How long to wait before trying again to embed a pool that another process embeds."""
TOLD_SECONDS = 2.0
"""The shortest time between two checks of whether a pool that is being embedded is worth a round."""
HOSTS_SECONDS = 30.0
"""How long a host that did not answer is skipped."""
LONGEST_PAUSE_SECONDS = 30.0
STOP_SECONDS = 5.0


class EmbeddingLanes:
    """The threads that embed in the trainer.

    Args:
        store: Holds the crops, and the reasons why some cannot be embedded.
        files: Returns a project's files.
        pool_embedding: Embeds crops.
        problems: Keeps the reason why a project's crops could not be embedded.
        least_crops: The smallest number of crops in a slice: as many as are fetched at a time.
    """

    def __init__(
        self,
        store: Store,
        files: Callable[[int], ProjectFiles],
        pool_embedding: PoolEmbedding,
        problems: EmbeddingProblems,
        least_crops: int,
    ) -> None:
        self._store = store
        self._files = files
        self._pool_embedding = pool_embedding
        self._problems = problems
        self._least_crops = least_crops
        self._lock = threading.Lock()
        self._passes: dict[int, _Pass] = {}
        self._hosts: dict[int, tuple[float, Hosts]] = {}
        self._failures: dict[int, int] = {}
        self._told_at: dict[int, float] = {}
        self._grown: set[int] = set()
        self._asked: dict[int, set[int]] = {}
        self._pools = FairThreads("embedding", self._slice, self._ended)
        self._urgent = FairThreads("urgent embedding", self._embed_asked)

    def request(self, project_id: int) -> None:
        """Have the missing crops of a pool embedded; return at once."""
        self._pools.request(project_id)

    def request_tasks(self, project_id: int, task_ids: Iterable[int]) -> None:
        """Have these tasks' crops embedded ahead of all others; return at once."""
        with self._lock:
            self._asked.setdefault(project_id, set()).update(task_ids)
        self._urgent.request(project_id)

    def is_active(self, project_id: int, *, with_next: bool = False) -> bool:
        """Return whether a pool is being embedded, here or in another process.

        Args:
            project_id: The project.
            with_next: Count embedding with the encoder that the project is being switched to.
        """
        if self._pools.is_active(project_id):
            if with_next:
                return True
            known = self._passes.get(project_id)
            if known is None:  # no slice has begun yet
                return self._store.count_tasks(project_id)["missing"] > 0
            return not known.is_for_next
        try:
            with self._files(project_id).pool_lock(timeout=0):
                return False
        except Timeout:
            return True

    def grown(self) -> list[int]:
        """Return the projects that have more embedded crops than when they were last marked as seen."""
        with self._lock:
            return sorted(self._grown)

    def mark_seen(self, project_id: int) -> None:
        """Note that the trainer has seen how many embedded crops a project has."""
        with self._lock:
            self._grown.discard(project_id)

    def mark_grown(self, project_id: int) -> None:
        """Note that a project has more embedded crops."""
        with self._lock:
            self._grown.add(project_id)

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until nothing is left to embed, and return whether that happened in time."""
        until = time.monotonic() + seconds
        return self._urgent.wait_until_idle(seconds) and self._pools.wait_until_idle(until - time.monotonic())

    def stop(self) -> None:
        """Begin no more slices, and wait a little for the running ones; what they lose is embedded again."""
        self._urgent.stop(STOP_SECONDS)
        self._pools.stop(STOP_SECONDS)

    # --- pools

    def _slice(self, project_id: int) -> float | None:
        with logs.about(project=project_id):
            try:
                self._pool_embedding.check(project_id)  # the lock would create its folder again
                with self._files(project_id).pool_lock(timeout=0):
                    pause = self._embed_slice(project_id)
            except Timeout:
                self._tell(project_id)  # the other process embeds this pool
                return LOCKED_SECONDS
            except PoolGoneError:
                self._passes.pop(project_id, None)
                self._failures.pop(project_id, None)
                return None
            except Exception as error:  # noqa: BLE001 - one project's fault never stops the others
                ended = self._passes.pop(project_id, None)
                if ended is not None and ended.is_for_next:
                    # What the project has goes on, and the next pass over its pool tries this again.
                    self._tell_next(project_id, error)
                    return None
                failures = self._failures[project_id] = self._failures.get(project_id, 0) + 1
                self._problems.failed(project_id, error)
                return float(min(LONGEST_PAUSE_SECONDS, 0.5 * 2.0 ** min(failures, 10)))
            if self._failures.pop(project_id, None):
                self._problems.over(project_id)
            return pause

    def _embed_slice(self, project_id: int) -> float | None:
        one = self._pass_of(project_id)
        if one is None:
            return None
        started = time.monotonic()

        def is_over() -> bool:
            enough = SLICE_SECONDS if self._pools.has_others(project_id) else ALONE_SECONDS
            return time.monotonic() - started >= enough

        taken = _Slice(one, is_over)
        embed = self._pool_embedding.embed_next if one.is_for_next else self._pool_embedding.embed_some
        done = embed(project_id, taken, hosts=one.hosts)
        a_second = taken.given / max(0.01, time.monotonic() - started)
        one.crops = max(self._least_crops, min(int(a_second * ALONE_SECONDS), GROWTH * one.crops, MOST_CROPS))
        if one.ended:
            del self._passes[project_id]
            if one.hosts.failure is not None:
                # The embedded crops are worth a round; the others are tried again at the next comparison.
                log.warning("project %s: %s", project_id, one.hosts.failure)
                faults.note(
                    self._files(project_id).folder, faults.IMAGES, str(one.hosts.failure), time.time()
                )
                self._hosts[project_id] = (time.monotonic(), one.hosts)
                if one.is_for_next:
                    self._pool_embedding.give_up_next(project_id, str(one.hosts.failure))
            else:
                faults.over(self._files(project_id).folder, faults.IMAGES)
            return 0.0 if not one.is_for_next and self._missing_next(project_id) else None
        if done.embedded and not one.is_for_next:
            self._tell(project_id)
        return 0.0

    def _pass_of(self, project_id: int) -> _Pass | None:
        """Return the pass that a project's next slice belongs to; None if nothing is missing.

        The crops that its encoder lacks come before those that the next encoder lacks, in the middle of a pass too;
        unless the host of those does not answer at the moment.
        """
        known = self._passes.get(project_id)
        if known is not None and not known.is_for_next:
            return known
        hosts = self._hosts_of(project_id)
        try:
            missing = self._pool_embedding.missing(project_id)
        except EncoderError:
            if not self._missing_next(project_id):  # a switch is the way out
                raise
            missing = None
        here = None if missing is None or not len(missing.tasks) else _Pass(iter(missing.tasks), hosts)
        if here is not None and hosts.failure is None:
            known = here
        elif known is None:
            tasks = self._missing_next(project_id)
            known = _Pass(iter(tasks), hosts, is_for_next=True) if tasks else here
        if known is not None:
            self._passes[project_id] = known
        return known

    def _missing_next(self, project_id: int) -> TasksToEmbed | None:
        """Return the crops that the next encoder lacks; none where that cannot be loaded, which is told."""
        try:
            return self._pool_embedding.missing_next(project_id)
        except EncoderError as error:
            self._tell_next(project_id, error)
            return None

    def _tell_next(self, project_id: int, error: Exception) -> None:
        """Store why a switch goes no further, until the next comparison with Label Studio."""
        log.error(
            "project %s: its crops cannot be embedded with the next encoder", project_id, exc_info=error
        )
        if self._store.project(project_id) is not None:
            self._store.save_project(project_id, problem=f"It is not switched yet: {unexpected(error)}")

    def _hosts_of(self, project_id: int) -> Hosts:
        since, hosts = self._hosts.get(project_id, (0.0, None))
        if hosts is None or time.monotonic() - since >= HOSTS_SECONDS:
            hosts = Hosts()
            self._hosts[project_id] = (time.monotonic(), hosts)
        return hosts

    def _tell(self, project_id: int) -> None:
        now = time.monotonic()
        if now - self._told_at.setdefault(project_id, now) >= TOLD_SECONDS:
            self._told_at[project_id] = now
            self.mark_grown(project_id)

    def _ended(self, project_id: int) -> None:
        self._told_at.pop(project_id, None)
        self.mark_grown(project_id)

    # --- crops that /predict waits for

    def _embed_asked(self, project_id: int) -> float | None:
        with self._lock:
            task_ids = sorted(self._asked.pop(project_id, ()))
        with logs.about(project=project_id):
            try:
                failure = self._pool_embedding.embed(project_id, task_ids).failure
            except PoolGoneError:
                return None
            except Exception as error:  # noqa: BLE001 - as above
                self._failures[project_id] = self._failures.get(project_id, 0) + 1
                self._problems.failed(project_id, error)
                self._pools.request(project_id)  # tried again there, and no longer a problem once it works
                return None
            if failure is not None:
                # Stored, so that the waiting call learns the reason; the next comparison tries them again.
                left = [task.id for task in self._store.tasks_to_embed(project_id, task_ids)]
                self._store.save_problems(project_id, dict.fromkeys(left, str(failure)))
        return None


@dataclass
class _Pass:
    """One pass over the missing crops of a pool, in many slices."""

    remaining: Iterator[Task]
    hosts: Hosts
    is_for_next: bool = False
    """With the encoder that the project is being switched to."""
    crops: int = FIRST_CROPS
    """The most crops of the next slice."""
    ended: bool = field(default=False)


class _Slice(Collection[Task]):
    """The next crops of a pass, which can be iterated once; it ends early when `is_over` returns True."""

    def __init__(self, one: _Pass, is_over: Callable[[], bool]) -> None:
        self._pass = one
        self._is_over = is_over
        self.given = 0

    def __len__(self) -> int:
        return self._pass.crops

    def __iter__(self) -> Iterator[Task]:
        for _ in range(self._pass.crops):
            task = next(self._pass.remaining, None)
            if task is None:
                self._pass.ended = True
                return
            self.given += 1
            yield task
            if self._is_over():
                return

    def __contains__(self, task: object) -> bool:
        raise NotImplementedError("A slice can be iterated once.")
