"""Tasks and their crops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from everylabel.backend.store.database import chunks
from everylabel.backend.store.deletions import Deletions
from everylabel.backend.store.tables import AnnotationRow, OtherEmbeddingRow, ProjectRow, TaskRow


@dataclass(frozen=True)
class Task:
    """A Label Studio task, and the row of its crop's embedding."""

    id: int
    image_url: str | None
    embedding_row: int | None = None
    problem: str | None = None


TASKS = select(TaskRow.id, TaskRow.image_url, TaskRow.embedding_row, TaskRow.problem)
"""As plain columns: 50,000 mapped objects cost every round a second."""


class Tasks(Deletions):
    """The part of the store that holds tasks."""

    def save_tasks(self, project_id: int, tasks: Iterable[Task], *, as_read: bool = False) -> None:
        """Add tasks; one that is known keeps its embedding and its problem unless its image has changed.

        Args:
            project_id: the project.
            tasks: as webhooks bring them; one that was deleted stays deleted.
            as_read: they were just read from Label Studio, so they exist whatever was deleted before.
        """
        tasks = list(tasks)
        with self._writing(project_id) as session:
            ids = [task.id for task in tasks]
            if as_read:
                self._exists_again(session, project_id, "task", ids)
            else:
                gone = self._deleted(session, project_id, "task", ids)
                tasks = [task for task in tasks if task.id not in gone]
            known = {
                row.id: row.image_url for row in _select_tasks(session, project_id, (t.id for t in tasks))
            }
            changed = [t.id for t in tasks if t.id in known and known[t.id] != t.image_url]
            _forget_other_rows(session, project_id, changed)
            new: dict[int, Task] = {}
            for task in tasks:
                if task.id not in known:
                    new[task.id] = task
                elif known[task.id] != task.image_url:
                    session.execute(
                        update(TaskRow)
                        .where(TaskRow.project_id == project_id, TaskRow.id == task.id)
                        .values(
                            image_url=task.image_url, embedding_row=None, digest=None, problem=task.problem
                        )
                    )
            rows = [
                {"project_id": project_id, "id": t.id, "image_url": t.image_url, "problem": t.problem}
                for t in new.values()
            ]
            if rows:
                session.execute(insert(TaskRow), rows)

    def delete_tasks(self, project_id: int, task_ids: Iterable[int]) -> None:
        """Delete tasks and their annotations."""
        task_ids = list(task_ids)
        with self._writing(project_id) as session:
            self._remember_deleted(session, project_id, "task", task_ids)
            _forget_other_rows(session, project_id, task_ids)
            for ids in chunks(task_ids):
                session.execute(delete(TaskRow).where(TaskRow.project_id == project_id, TaskRow.id.in_(ids)))
                session.execute(
                    delete(AnnotationRow).where(
                        AnnotationRow.project_id == project_id, AnnotationRow.task_id.in_(ids)
                    )
                )

    def tasks(self, project_id: int, task_ids: Iterable[int] | None = None) -> list[Task]:
        """Return tasks by id: all of them, or those among `task_ids` that are known."""
        query = TASKS.where(TaskRow.project_id == project_id).order_by(TaskRow.id)
        with self._session() as session:
            if task_ids is None:
                return [Task(*row) for row in session.execute(query)]
            return [
                Task(*row)
                for ids in chunks(task_ids)
                for row in session.execute(query.where(TaskRow.id.in_(ids)))
            ]

    def tasks_between(self, project_id: int, after: int, until: int) -> list[Task]:
        """Return the tasks with an id above `after` and at most `until`, by id."""
        query = TASKS.where(TaskRow.project_id == project_id, TaskRow.id > after, TaskRow.id <= until)
        with self._session() as session:
            return [Task(*row) for row in session.execute(query.order_by(TaskRow.id))]

    def embedding_rows(self, project_id: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the tasks that have an embedding, and its row in the file.

        A round reads this of every task: of a million in 0.6 s, where tasks as objects take three.

        Returns:
            Task ids, ascending, and rows: two (m,) int64 arrays.
        """
        query = (
            select(TaskRow.id, TaskRow.embedding_row)
            .where(TaskRow.project_id == project_id, TaskRow.embedding_row.is_not(None))
            .order_by(TaskRow.id)
        )
        with self._session() as session:
            rows = session.connection().execute(query)
            found = np.fromiter(chain.from_iterable(rows), dtype=np.int64)
        return found[::2].copy(), found[1::2].copy()

    def number_of_tasks(self, project_id: int, until: int | None = None) -> int:
        """Return how many tasks a project has, or has with an id of at most `until`."""
        query = select(func.count()).select_from(TaskRow).where(TaskRow.project_id == project_id)
        if until is not None:
            query = query.where(TaskRow.id <= until)
        with self._session() as session:
            return session.execute(query).scalar_one()

    def newest_task(self, project_id: int) -> int:
        """Return the largest id of a task; 0 if there is none."""
        query = select(func.max(TaskRow.id)).where(TaskRow.project_id == project_id)
        with self._session() as session:
            return session.execute(query).scalar_one() or 0

    def count_tasks(self, project_id: int) -> dict[str, int]:
        """Return how many crops are `embedded`, `missing` (not read yet) and `unreadable`."""
        query = select(func.count(TaskRow.embedding_row), func.count(TaskRow.problem), func.count())
        with self._session() as session:
            embedded, unreadable, all_tasks = session.execute(
                query.where(TaskRow.project_id == project_id)
            ).one()
        return {
            "embedded": embedded,
            "unreadable": unreadable,
            "missing": max(0, all_tasks - embedded - unreadable),
        }

    def unreadable_task(self, project_id: int) -> Task | None:
        """Return the first task whose crop cannot be read, or None."""
        query = TASKS.where(TaskRow.project_id == project_id, TaskRow.problem.is_not(None))
        with self._session() as session:
            row = session.execute(query.order_by(TaskRow.id).limit(1)).first()
            return None if row is None else Task(*row)

    def save_problems(self, project_id: int, problems: Mapping[int, str]) -> None:
        """Record why each of these tasks' crops cannot be read."""
        self._update_tasks(project_id, [(id_, {"problem": why}) for id_, why in problems.items()])

    def forget_embeddings(self, project_id: int, encoder: str) -> None:
        """Mark every crop to be embedded again, with another encoder or after the file has lost rows."""
        other = OtherEmbeddingRow
        with self._writing(project_id) as session:
            session.execute(delete(other).where(other.project_id == project_id, other.encoder == encoder))
            session.execute(
                update(TaskRow)
                .where(TaskRow.project_id == project_id, TaskRow.image_url.is_not(None))
                .values(embedding_row=None, digest=None, problem=None)
            )
            project = session.get(ProjectRow, project_id)
            if project is not None:
                project.encoder, project.embedded_until = encoder, None
                if project.next_signature == encoder:  # by another way than the switch
                    project.next_encoder = project.next_signature = None

    def forget_problems(self, project_id: int) -> None:
        """Mark every crop that could not be read to be tried again, except tasks without an image."""
        with self._writing(project_id) as session:
            session.execute(
                update(TaskRow)
                .where(
                    TaskRow.project_id == project_id,
                    TaskRow.problem.is_not(None),
                    TaskRow.image_url.is_not(None),
                )
                .values(problem=None)
            )

    def _update_tasks(self, project_id: int, changes: Sequence[tuple[int, dict[str, Any]]]) -> None:
        if not changes:
            return
        rows = [{"project_id": project_id, "id": id_, **values} for id_, values in changes]
        with self._writing(project_id) as session:
            known = {row.id for row in _select_tasks(session, project_id, [id_ for id_, _ in changes])}
            session.execute(update(TaskRow), [row for row in rows if row["id"] in known])


def _forget_other_rows(session: Session, project_id: int, task_ids: Iterable[int]) -> None:
    """Forget what encoders that are not in use have made of these tasks' crops: they are gone, or others by now."""
    other = OtherEmbeddingRow
    for ids in chunks(task_ids):
        session.execute(delete(other).where(other.project_id == project_id, other.task_id.in_(ids)))


def _select_tasks(session: Session, project_id: int, task_ids: Iterable[int]) -> Iterable[TaskRow]:
    for ids in chunks(task_ids):
        yield from session.scalars(
            select(TaskRow).where(TaskRow.project_id == project_id, TaskRow.id.in_(ids))
        )
