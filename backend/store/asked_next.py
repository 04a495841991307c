"""Crops that people have asked to be asked for next: the head of Label Studio's queue, until they are labelled."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Select, delete, select

from everylabel.backend.store.database import Database, chunks
from everylabel.backend.store.tables import AskedNextRow, TaskRow

MOST = 500
"""Crops that may wait in a project."""


class TooManyAskedError(RuntimeError):
    """More crops would wait than a project may have asked for."""


class AskedNext(Database):
    """The part of the store that holds the crops people have asked for."""

    def ask_next(self, project_id: int, annotator: int, task_ids: Sequence[int]) -> None:
        """Have these tasks asked for before all others; one that waits already keeps its place.

        Raises:
            TooManyAskedError: More than `MOST` would wait; nothing is then stored.
        """
        with self._writing(project_id) as session:
            tasks = select(TaskRow.id).where(TaskRow.project_id == project_id)
            mine = AskedNextRow.project_id == project_id
            session.execute(delete(AskedNextRow).where(mine, AskedNextRow.task_id.not_in(tasks)))
            held = set(session.scalars(self._in_order(project_id)))
            new = [task for task in dict.fromkeys(task_ids) if task not in held]
            if len(held) + len(new) > MOST:
                raise TooManyAskedError
            now = self._clock()
            session.add_all(
                AskedNextRow(
                    project_id=project_id, task_id=task, place=place, annotator=annotator, asked_at=now
                )
                for place, task in enumerate(new)
            )

    def asked_next(self, project_id: int) -> list[int]:
        """Return the tasks that wait, in their order: what was asked for last comes first."""
        with self._session() as session:
            return list(session.scalars(self._in_order(project_id)))

    def forget_asked(self, project_id: int, task_ids: Collection[int]) -> None:
        """Ask for these tasks no more: they are labelled or gone, or somebody has thought better of it."""
        if not task_ids:
            return
        with self._writing(project_id) as session:
            for ids in chunks(task_ids):
                session.execute(
                    delete(AskedNextRow).where(
                        AskedNextRow.project_id == project_id, AskedNextRow.task_id.in_(ids)
                    )
                )

    def _in_order(self, project_id: int) -> Select[int]:
        return (
            select(AskedNextRow.task_id)
            .where(AskedNextRow.project_id == project_id)
            .order_by(AskedNextRow.asked_at.desc(), AskedNextRow.place)
        )
