"""Rows of the embedding file: which crops have one, and which are still to be embedded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Protocol, cast

from sqlalchemy import ColumnElement, Table, bindparam, delete, func, null, select, update
from sqlalchemy.orm import Session
from sqlalchemy.types import NullType

from everylabel.backend.store.database import CHUNK, chunks
from everylabel.backend.store.tables import OtherEmbeddingRow, ProjectRow, TaskRow
from everylabel.backend.store.tasks import TASKS, Task, Tasks

_TASKS = cast("Table", TaskRow.__table__)
_EMBEDDED = (
    update(_TASKS)
    .where(_TASKS.c.project_id == bindparam("of_project"), _TASKS.c.id == bindparam("of_id"))
    .values(embedding_row=bindparam("new_row"), digest=bindparam("new_digest"), problem=None)
)
_ROWS_OF = select(_TASKS.c.digest, _TASKS.c.embedding_row).where(
    _TASKS.c.project_id == bindparam("of_project"),
    _TASKS.c.embedding_row.is_not(None),
    # Of no type: what is done to each value of a binary column takes longer than to look it up.
    _TASKS.c.digest.in_(bindparam("digests", expanding=True, type_=NullType())),
)
_STILL_OPEN = select(_TASKS.c.id).where(
    _TASKS.c.project_id == bindparam("of_project"),
    _TASKS.c.embedding_row.is_(None),
    _TASKS.c.problem.is_(None),
    _TASKS.c.id.in_(bindparam("ids", expanding=True)),
)
_ADDRESSES = select(_TASKS.c.id, _TASKS.c.image_url).where(
    _TASKS.c.project_id == bindparam("of_project"), _TASKS.c.id.in_(bindparam("ids", expanding=True))
)
"""Plain statements, for all that each crop of a large pool needs: mapped ones cost three times as much, and a GPU waits for them."""


class RowStore(Protocol):
    """The part of the store that an embedding pipeline works with: that of the encoder in use, or of another one."""

    def open_tasks(self, project_id: int, among: list[int] | None, after: int | None) -> list[Task]:
        """Return the next tasks to embed, by id: `among` these, with a larger id than `after`."""

    def count_open(self, project_id: int, among: list[int] | None) -> int:
        """Return how many tasks `among` these are to be embedded."""

    def still_open(self, project_id: int, task_ids: Iterable[int]) -> set[int]:
        """Return which of these tasks are still to be embedded."""

    def rows_of(self, project_id: int, digests: Iterable[bytes]) -> dict[bytes, int]:
        """Return a row of the embedding file for each of these digests that has one."""

    def embedded_until(self, project_id: int, on_disk: int) -> int:
        """Return the end of the rows that a task has ever pointed at."""

    def save_embedded(
        self,
        project_id: int,
        rows: Mapping[int, int],
        *,
        digests: Mapping[int, bytes] | None = None,
        read_from: Mapping[int, str | None] | None = None,
    ) -> None:
        """Record in which row of the embedding file each task's crop is."""

    def save_problems(self, project_id: int, problems: Mapping[int, str]) -> None:
        """Record why each of these tasks' crops cannot be embedded."""


class TasksToEmbed(Collection[Task]):
    """Tasks whose crop has not been read yet, by id; loaded from the store a few at a time.

    Args:
        embeddings: the store, or its part that knows what is open.
        project_id: the project.
        among: only these tasks; all if None.
    """

    def __init__(self, embeddings: RowStore, project_id: int, among: Iterable[int] | None = None) -> None:
        self._embeddings = embeddings
        self._project_id = project_id
        self._among = None if among is None else sorted(set(among))

    def __len__(self) -> int:
        return sum(self._embeddings.count_open(self._project_id, some) for some in self._portions())

    def __iter__(self) -> Iterator[Task]:
        for some in self._portions():
            last = None
            while found := self._embeddings.open_tasks(self._project_id, some, after=last):
                yield from found
                last = found[-1].id

    def __contains__(self, task: object) -> bool:
        return any(task == found for found in self)

    def _portions(self) -> Iterable[list[int] | None]:
        return [None] if self._among is None else chunks(self._among)


class Embeddings(Tasks):
    """The part of the store that knows where the tasks' embeddings are."""

    def tasks_to_embed(self, project_id: int, task_ids: Iterable[int] | None = None) -> TasksToEmbed:
        """Return the tasks whose crop has not been read yet: all of them, or those among `task_ids`."""
        return TasksToEmbed(self, project_id, task_ids)

    def open_tasks(self, project_id: int, among: list[int] | None, after: int | None) -> list[Task]:
        """Return the next tasks to embed, by id: `among` these, with a larger id than `after`."""
        query = TASKS.where(*_is_open(project_id, among)).order_by(TaskRow.id).limit(CHUNK)
        if after is not None:
            query = query.where(TaskRow.id > after)
        with self._session() as session:
            return [Task(*row) for row in session.execute(query)]

    def still_open(self, project_id: int, task_ids: Iterable[int]) -> set[int]:
        """Return which of these tasks are still to be embedded."""
        with self._session() as session:
            return {
                id_
                for some in chunks(task_ids)
                for (id_,) in session.execute(_STILL_OPEN, {"of_project": project_id, "ids": some})
            }

    def count_open(self, project_id: int, among: list[int] | None) -> int:
        """Return how many tasks `among` these are to be embedded."""
        with self._session() as session:
            return session.scalar(select(func.count()).where(*_is_open(project_id, among))) or 0

    def save_embedded(
        self,
        project_id: int,
        rows: Mapping[int, int],
        *,
        digests: Mapping[int, bytes] | None = None,
        read_from: Mapping[int, str | None] | None = None,
    ) -> None:
        """Record in which row of the embedding file each task's crop is.

        Args:
            project_id: the project.
            rows: by task; one that is gone is skipped.
            digests: of the crops' pixels, by task: `rows_of` finds the rows by them.
            read_from: the address each crop was read from. A task whose address has changed is left to be embedded.
        """
        digests = digests or {}
        with self._writing(project_id) as session:
            shown = addresses(session, project_id, rows, with_text=read_from is not None)
            changes = [
                {"of_project": project_id, "of_id": id_, "new_row": row, "new_digest": digests.get(id_)}
                for id_, row in rows.items()
                if id_ in shown and (read_from is None or shown[id_] == read_from[id_])
            ]
            if changes:
                session.execute(_EMBEDDED, changes)
            # In the same transaction: what lies behind this in the file, nobody has ever been told of.
            project = session.get(ProjectRow, project_id)
            if project is not None and rows:
                project.embedded_until = max(project.embedded_until or 0, *(row + 1 for row in rows.values()))

    def forget_rows(self, project_id: int, rows: Iterable[int], encoder: str) -> int:
        """Mark the crops that lie in these rows of an encoder's file to be embedded again; return how many."""
        forgotten = 0
        with self._writing(project_id) as session:
            project = session.get(ProjectRow, project_id)
            if project is None or project.encoder != encoder:
                return 0
            for some in chunks(rows):
                held = (TaskRow.project_id == project_id, TaskRow.embedding_row.in_(some))
                forgotten += session.scalar(select(func.count()).where(*held)) or 0
                session.execute(update(TaskRow).where(*held).values(embedding_row=None, digest=None))
                session.execute(
                    delete(OtherEmbeddingRow).where(
                        OtherEmbeddingRow.project_id == project_id,
                        OtherEmbeddingRow.encoder == encoder,
                        OtherEmbeddingRow.embedding_row.in_(some),
                    )
                )
        return forgotten

    def embedded_until(self, project_id: int, on_disk: int) -> int:
        """Return the end of the rows that a task has ever pointed at; rows left by a crash lie behind it.

        Where that is not known, all rows `on_disk` may have been.
        """
        this = ProjectRow.id == project_id
        with self._writing(project_id) as session:
            found = session.execute(select(ProjectRow.embedded_until).where(this)).one_or_none()
            if found is None or found.embedded_until is not None:
                return on_disk if found is None else found.embedded_until
            session.execute(update(ProjectRow).where(this).values(embedded_until=on_disk))
            return on_disk

    def known_rows(self, project_id: int) -> int:
        """Return the end of the rows that a task has ever pointed at; 0 if that is not known."""
        query = select(ProjectRow.embedded_until).where(ProjectRow.id == project_id)
        with self._session() as session:
            return session.scalar(query) or 0

    def rows_of(self, project_id: int, digests: Iterable[bytes]) -> dict[bytes, int]:
        """Return a row of the embedding file for each of these digests that has one."""
        with self._session() as session:
            return {
                digest: row
                for some in chunks(digests)
                for digest, row in session.execute(_ROWS_OF, {"of_project": project_id, "digests": some})
            }


def _is_open(project_id: int, among: list[int] | None) -> list[ColumnElement[bool]]:
    conditions = [
        TaskRow.project_id == project_id,
        TaskRow.embedding_row.is_(None),
        TaskRow.problem.is_(None),
    ]
    return conditions if among is None else [*conditions, TaskRow.id.in_(among)]


def addresses(
    session: Session, project_id: int, task_ids: Iterable[int], *, with_text: bool
) -> dict[int, str | None]:
    """Return the address of each of these tasks that exist."""
    query = _ADDRESSES if with_text else _ADDRESSES.with_only_columns(_TASKS.c.id, null())
    return {
        id_: address
        for some in chunks(task_ids)
        for id_, address in session.execute(query, {"of_project": project_id, "ids": some})
    }
