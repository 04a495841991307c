"""Read a project's tasks from Label Studio: all of them once, and afterwards the new and changed ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.label_config import Crop, ImageChoices
from everylabel.backend.store import Store, Task

SAVED_TOGETHER = 2000
"""How many tasks read from Label Studio are saved in one transaction."""
READ_WHOLE_SECONDS = 86_400.0
"""How often every task is read again: 100,000 tasks take Label Studio two minutes, in which annotators wait."""
LATE_SECONDS = 60.0
"""How far before the last sync changes are read: a transaction of Label Studio's may have ended after it."""


class TaskListing:
    """One comparison of a project's tasks, after which the store's are those of Label Studio.

    Label Studio knows when a task's data or annotations last changed, and how many tasks a project has. So only new and
    changed tasks are read, and if the numbers differ after that, tasks have been deleted.

    Every method that reads raises `LabelStudioError` if Label Studio does not answer or refuses; what was read is kept.

    Args:
        store: Holds the tasks.
        label_studio: The client.
        project_id: The project.
        control: Finds the crop in a task's data.
        whole: Read every task (1.1 ms each). This also happens at the first comparison, and once a day.
        clock: Returns seconds since 1970.
        progress: Called with (tasks read, tasks to read).
    """

    def __init__(
        self,
        store: Store,
        label_studio: LabelStudio,
        project_id: int,
        control: ImageChoices,
        *,
        whole: bool = False,
        clock: Callable[[], float] = time.time,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._store = store
        self._label_studio = label_studio
        self._project_id = project_id
        self._control = control
        self._progress = progress
        self._began = clock()
        self.since = None if whole else self._since()
        """Changes since then are read, in seconds since 1970; None if every task is read."""
        self.touched: set[int] | None = None if self.since is None else set()
        """The tasks that have changed since then; None if every task is read."""
        self._read_every_task = False

    def read(self) -> bool:
        """Bring the tasks up to date, and return whether any is new, changed or gone."""
        if self.since is None or self.touched is None:
            return self._read_whole()
        changed = False
        pages = self._label_studio.tasks(self._project_id, changed_since=self.since, progress=self._progress)
        for page in _pages(pages):
            read = set(map(_id, page))
            changed |= self._save(page, self._store.tasks(self._project_id, read))
            self.touched |= read
        missing = self._missing()
        if missing > 0:
            # An import may take longer than the overlap of LATE_SECONDS.
            changed |= self._read_new()
            missing = self._missing()
        return (missing != 0 and self._read_whole()) or changed

    def read_unheard_of(self, existing: Collection[int]) -> bool:
        """Read tasks if some of the `existing` ones are not in the store, and return whether that was so."""
        if self._knows(existing):
            return False
        self._read_new()
        if not self._knows(existing):
            self._read_whole()
        return True

    def end(self) -> None:
        """Have the next comparison read the changes from this one on; call it once everything read is stored."""
        whole = {"listed_whole_at": self._began} if self._read_every_task else {}
        self._store.save_project(self._project_id, listed_at=self._began, **whole)

    def _since(self) -> float | None:
        last = self._store.listing(self._project_id)
        if last.at is None or last.whole_at is None or last.at > self._began + LATE_SECONDS:
            return None  # the first time, or the clock was set back: nothing has changed since a time to come
        return last.at - LATE_SECONDS if self._began - last.whole_at < READ_WHOLE_SECONDS else None

    def _knows(self, task_ids: Collection[int]) -> bool:
        return len(self._store.tasks(self._project_id, task_ids)) == len(task_ids)

    def _missing(self) -> int:
        """Return how many more tasks Label Studio has than the store; below 0 if it has fewer."""
        there = int(self._label_studio.project(self._project_id).get("task_number") or 0)
        return there - self._store.number_of_tasks(self._project_id)

    def _read_new(self) -> bool:
        return self._read_from(self._store.newest_task(self._project_id), self._progress)

    def _read_whole(self) -> bool:
        """Read every task; if most are new, an interrupted reading goes on the next time."""
        after = self._store.listing(self._project_id).until
        known = self._store.number_of_tasks(self._project_id, until=after)
        first = after > 0 or self._missing() > self._store.number_of_tasks(self._project_id)

        def report(done: int, total: int) -> None:
            if self._progress is not None:
                self._progress(known + done, known + total)

        changed = self._read_from(after, report, resumable=first)
        if first:
            self._store.save_project(self._project_id, listed_until=None)
        self._read_every_task = True
        return changed

    def _read_from(
        self, after: int, progress: Callable[[int, int], None] | None, *, resumable: bool = False
    ) -> bool:
        """Read the tasks with an id above `after`, and return whether any is new, changed or gone."""
        changed = False
        # A task made after the last page was read may already be known from `/predict`: it is not gone.
        newest = self._store.newest_task(self._project_id)
        for page in _pages(self._label_studio.tasks(self._project_id, after=after, progress=progress)):
            last = _id(page[-1])
            before = self._store.tasks_between(self._project_id, after, last)
            changed |= self._save(page, before)
            changed |= self._forget({task.id for task in before} - set(map(_id, page)))
            after = last
            if resumable:
                self._store.save_project(self._project_id, listed_until=last)
        rest = self._store.tasks_between(self._project_id, after, newest)
        return self._forget({task.id for task in rest}) or changed

    def _save(self, read: Iterable[Mapping[str, Any]], before: Iterable[Task]) -> bool:
        """Save the tasks that differ from what they were before, and return whether there are any."""
        known = {task.id: task.image_url for task in before}
        tasks = [stored_task(_id(task), self._control.crop(task.get("data"))) for task in read]
        new = [task for task in tasks if task.id not in known or known[task.id] != task.image_url]
        if new:
            self._store.save_tasks(self._project_id, new, as_read=True)
        return bool(new)

    def _forget(self, gone: Collection[int]) -> bool:
        if gone:
            self._store.delete_tasks(self._project_id, gone)
        return bool(gone)


def stored_task(id_: int, crop: Crop) -> Task:
    """Return a task as the store keeps it: with the address of its crop, or the reason why there is none."""
    return Task(id_, crop.url, problem=crop.problem)


def _pages(tasks: Iterator[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Yield tasks in order, as many at a time as are saved together."""
    while page := list(islice(tasks, SAVED_TOGETHER)):
        yield page


def _id(task: Mapping[str, Any]) -> int:
    return int(task["id"])
