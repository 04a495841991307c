"""Reads a project's tasks from Label Studio: all of them once, and afterwards what is new or has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from backend.label_config import Crop, ImageChoices
from backend.label_studio import LabelStudio
from backend.store import Store, Task

SAVED_TOGETHER = 2000
"""Tasks read from Label Studio that one transaction takes."""
READ_WHOLE_SECONDS = 86_400.0
"""How often every task is read again: 100,000 of them cost Label Studio two minutes, in which annotators wait."""
LATE_SECONDS = 60.0
"""How far before the last reading is looked for changes: a transaction of Label Studio's may have ended after it, and
clocks differ."""


@dataclass(frozen=True)
class TasksRead:
    """What a look at the tasks has found."""

    changed: bool
    """Whether a task is new, changed or gone."""
    ids: Collection[int]
    """The tasks that have changed, where only these were read."""
    whole: bool
    """Whether every task was read."""


class TaskListing:
    """Keeps the store's tasks equal to those of Label Studio.

    Label Studio says when a task's data or annotations last changed, and how many tasks a project has: what is new
    and what has changed is read alone, and a number that does not fit then says that tasks are gone.

    Args:
        store: where the tasks are kept.
        clock: the time in seconds since 1970.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def since(self, project_id: int) -> float | None:
        """From when on changes are to be read, in seconds since 1970; None where every task is due."""
        listing = self._store.listing(project_id)
        if listing.at is None or listing.whole_at is None:
            return None
        return listing.at - LATE_SECONDS if self._clock() - listing.whole_at < READ_WHOLE_SECONDS else None

    def read(
        self,
        label_studio: LabelStudio,
        project_id: int,
        control: ImageChoices,
        since: float | None,
        progress: Callable[[int, int], None] | None = None,
    ) -> TasksRead:
        """Bring the tasks up to date.

        Args:
            label_studio: the client.
            project_id: the project.
            control: says what of a task's data is its crop.
            since: read what is new or has changed since, and every task only where their number does not fit
                then; None for every task (1.1 ms each).
            progress: called with (tasks read, tasks to read).

        Raises:
            LabelStudioError: Label Studio does not answer or refuses; what was read is kept.
        """
        ids: set[int] = set()
        changed, whole = False, since is None
        if since is not None:
            for page in _pages(label_studio.tasks(project_id, changed_since=since, progress=progress)):
                read = set(map(_id, page))
                changed |= self._save_tasks(project_id, control, page, self._store.tasks(project_id, read))
                ids |= read
            missing = self._are_missing(label_studio, project_id)
            if missing > 0:
                # An import may take longer than is looked back.
                changed |= self._read_new(label_studio, project_id, control, progress)
                missing = self._are_missing(label_studio, project_id)
            whole = missing != 0
        if whole:
            changed |= self._read_whole(label_studio, project_id, control, progress)
        return TasksRead(changed, ids, whole)

    def read_unheard_of(
        self,
        label_studio: LabelStudio,
        project_id: int,
        control: ImageChoices,
        existing: Collection[int],
        progress: Callable[[int, int], None] | None = None,
    ) -> bool:
        """Read tasks where some of those that exist are not in the store; whether that was so."""
        if self._all_are_known(project_id, existing):
            return False
        self._read_new(label_studio, project_id, control, progress)
        if not self._all_are_known(project_id, existing):
            self._read_whole(label_studio, project_id, control, progress)
        return True

    def _all_are_known(self, project_id: int, task_ids: Collection[int]) -> bool:
        return len(self._store.tasks(project_id, task_ids)) == len(task_ids)

    def _read_new(
        self,
        label_studio: LabelStudio,
        project_id: int,
        control: ImageChoices,
        progress: Callable[[int, int], None] | None,
    ) -> bool:
        newest = self._store.newest_task(project_id)
        return self._read_from(label_studio, project_id, control, newest, progress)

    def _are_missing(self, label_studio: LabelStudio, project_id: int) -> int:
        """How many tasks more Label Studio has than the store."""
        there = int(label_studio.project(project_id).get("task_number") or 0)
        return there - self._store.number_of_tasks(project_id)

    def _read_whole(
        self,
        label_studio: LabelStudio,
        project_id: int,
        control: ImageChoices,
        progress: Callable[[int, int], None] | None,
    ) -> bool:
        """Read every task; where most are new, a reading that is broken off goes on the next time."""
        after = self._store.listing(project_id).until
        known = self._store.number_of_tasks(project_id, until=after)
        missing = self._are_missing(label_studio, project_id)
        first = after > 0 or missing > self._store.number_of_tasks(project_id)

        def report(done: int, total: int) -> None:
            if progress is not None:
                progress(known + done, known + total)

        changed = self._read_from(label_studio, project_id, control, after, report, resumable=first)
        if first:
            self._store.save_project(project_id, listed_until=None)
        return changed

    def _read_from(
        self,
        label_studio: LabelStudio,
        project_id: int,
        control: ImageChoices,
        after: int,
        progress: Callable[[int, int], None] | None,
        *,
        resumable: bool = False,
    ) -> bool:
        """Read the tasks of a larger id than `after`; whether any is new, changed or gone."""
        changed = False
        # One made after the last page was read may be known by then, from `/predict`: it is not gone.
        newest = self._store.newest_task(project_id)
        for page in _pages(label_studio.tasks(project_id, after=after, progress=progress)):
            last = _id(page[-1])
            before = self._store.tasks_between(project_id, after, last)
            changed |= self._save_tasks(project_id, control, page, before)
            changed |= self._forget_tasks(project_id, {task.id for task in before} - set(map(_id, page)))
            after = last
            if resumable:
                self._store.save_project(project_id, listed_until=last)
        rest = self._store.tasks_between(project_id, after, newest)
        return self._forget_tasks(project_id, {task.id for task in rest}) or changed

    def _save_tasks(
        self,
        project_id: int,
        control: ImageChoices,
        read: Iterable[Mapping[str, Any]],
        before: Iterable[Task],
    ) -> bool:
        """Save the tasks that are not as they were before; whether there are any."""
        known = {task.id: task.image_url for task in before}
        tasks = [stored_task(_id(task), control.crop(task.get("data"))) for task in read]
        new = [task for task in tasks if task.id not in known or known[task.id] != task.image_url]
        if new:
            self._store.save_tasks(project_id, new, as_read=True)
        return bool(new)

    def _forget_tasks(self, project_id: int, gone: Collection[int]) -> bool:
        if gone:
            self._store.delete_tasks(project_id, gone)
        return bool(gone)


def stored_task(id_: int, crop: Crop) -> Task:
    """A task as the store keeps it: the address of what it shows, or why there is none."""
    return Task(id_, crop.url, problem=crop.problem)


def _pages(tasks: Iterator[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Tasks as they come, as many at a time as are saved together."""
    while page := list(islice(tasks, SAVED_TOGETHER)):
        yield page


def _id(task: Mapping[str, Any]) -> int:
    return int(task["id"])
