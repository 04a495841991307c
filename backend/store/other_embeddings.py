"""Rows of encoders that a project does not use: of the one it is being switched to, and of the one it had before.

A switch embeds every crop with the next encoder while the rounds go on with the present one. Once every crop has a row
of both, the two change places in one transaction, so that the way back is as short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ColumnElement,
    Insert,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session

from everylabel.backend.store.database import CHUNK, LARGEST_ID, chunks
from everylabel.backend.store.embeddings import Embeddings, TasksToEmbed, addresses
from everylabel.backend.store.tables import OtherEmbeddingRow, ProjectRow, TaskRow
from everylabel.backend.store.tasks import TASKS, Task

PORTION = 20_000
"""Tasks whose rows are copied or dropped in one transaction, ahead of a switch: a few tenths of a second."""


class OtherEmbeddings(Embeddings):
    """The part of the store that knows the rows of encoders which are not in use.

    A row here stays true while its encoder is in use, for files of rows are only appended to: so nothing is dropped when
    an encoder comes into use, and only what was embedded since is added when it goes.
    """

    def rows_with(self, encoder: str) -> OtherRows:
        """Return the rows of an encoder that is not in use, by its signature."""
        return OtherRows(self._session, self._writing, encoder)

    def prepare_switch(self, project_id: int, encoder: str) -> None:
        """Do what can be done ahead of a switch, in small transactions: keep the rows in use, drop those of third encoders."""
        in_use = self._signature(project_id)
        if in_use is None or in_use == encoder:
            return
        self._drop_all_but(project_id, (in_use, encoder))
        for first, last in self._portions(project_id):
            with self._writing(project_id) as session:
                session.execute(_copy(project_id, in_use, TaskRow.id > first, TaskRow.id <= last))

    def switch_encoder(
        self, project_id: int, encoder: str, name: str | None, embedded_until: int, model_round: int | None
    ) -> None:
        """Have a project use another encoder from now on: at a million crops in 11 s or more, in which nobody else writes.

        Crops without a row of that encoder are to be embedded. The rows of the present one are kept.

        Args:
            project_id: The project.
            encoder: The signature of the encoder.
            name: Its name; None if it is the one that the settings name.
            embedded_until: The end of its rows in its file.
            model_round: The round whose model reads its rows; None if there is none yet.
        """
        other = OtherEmbeddingRow
        mine = (other.project_id == project_id, other.encoder == encoder, other.task_id == TaskRow.id)
        with self._writing(project_id) as session, self._large_cache(session):
            project = session.get(ProjectRow, project_id)
            if project is None or project.encoder == encoder:
                return
            session.execute(_copy(project_id, project.encoder))
            session.execute(
                update(TaskRow)
                .where(TaskRow.project_id == project_id, ~exists().where(*mine))
                .values(embedding_row=None, digest=None)
                .execution_options(synchronize_session=False)
            )
            problem = func.coalesce(other.problem, TaskRow.problem)
            session.execute(
                update(TaskRow)
                .where(TaskRow.project_id == project_id, *mine)
                .values(
                    embedding_row=other.embedding_row,
                    digest=other.digest,
                    problem=case((other.embedding_row.is_not(None), null()), else_=problem),
                )
                .execution_options(synchronize_session=False)
            )
            project.encoder, project.encoder_name = encoder, name
            project.next_encoder = project.next_signature = project.better_encoder = None
            project.embedded_until = embedded_until
            project.model_round, project.model_pinned = model_round, False

    def _signature(self, project_id: int) -> str | None:
        with self._session() as session:
            return session.scalar(select(ProjectRow.encoder).where(ProjectRow.id == project_id))

    def _drop_all_but(self, project_id: int, encoders: Sequence[str]) -> None:
        """Drop the rows of other encoders, and what the present one could not embed: that may have changed since."""
        other, of_project = OtherEmbeddingRow, OtherEmbeddingRow.project_id == project_id
        with self._writing(project_id) as session:
            failed = (of_project, other.encoder == encoders[0], other.embedding_row.is_(None))
            session.execute(delete(other).where(*failed))
            held = session.scalars(select(other.encoder).where(of_project).distinct()).all()
        for encoder in set(held) - {*encoders}:
            for first, last in self._portions(project_id):
                some = (of_project, other.encoder == encoder, other.task_id > first, other.task_id <= last)
                with self._writing(project_id) as session:
                    session.execute(delete(other).where(*some))

    def _portions(self, project_id: int) -> Iterator[tuple[int, int]]:
        """Yield (after this task, up to that one) for a few thousand tasks at a time."""
        first = 0
        while True:
            query = (
                select(TaskRow.id)
                .where(TaskRow.project_id == project_id, TaskRow.id > first)
                .order_by(TaskRow.id)
                .offset(PORTION - 1)
                .limit(1)
            )
            with self._session() as session:
                last = session.scalar(query)
            yield first, LARGEST_ID if last is None else last
            if last is None:
                return
            first = last

    @contextmanager
    def _large_cache(self, session: Session) -> Iterator[None]:
        """Give SQLite 128 MB for what it changes at once: indexes by digest are written all over."""
        if self._is_sqlite:
            session.execute(text("PRAGMA cache_size=-131072"))
        try:
            yield
        finally:
            if self._is_sqlite:
                session.execute(text("PRAGMA cache_size=-2000"))


def _copy(project_id: int, encoder: str, *among: ColumnElement[bool]) -> Insert:
    """Return what keeps the rows in use as those of their encoder, where they are not kept yet."""
    other = OtherEmbeddingRow
    kept = exists().where(
        other.project_id == project_id, other.encoder == encoder, other.task_id == TaskRow.id
    )
    rows = select(
        TaskRow.project_id, literal(encoder), TaskRow.id, TaskRow.embedding_row, TaskRow.digest
    ).where(TaskRow.project_id == project_id, TaskRow.embedding_row.is_not(None), *among, ~kept)
    names = ["project_id", "encoder", "task_id", "embedding_row", "digest"]
    return insert(other).from_select(names, rows)


class OtherRows:
    """The rows of one encoder that is not in use, with the methods by which the embedding pipeline records rows.

    Args:
        reading: Opens a session of the store.
        writing: Opens a transaction that writes about a project.
        encoder: The signature of the encoder.
    """

    def __init__(
        self,
        reading: Callable[[], Session],
        writing: Callable[[int], AbstractContextManager[Session]],
        encoder: str,
    ) -> None:
        self._reading = reading
        self._writing = writing
        self._encoder = encoder

    def tasks_to_embed(self, project_id: int, task_ids: Iterable[int] | None = None) -> TasksToEmbed:
        """Return the tasks whose crop this encoder has not embedded, and that are not known to be unreadable."""
        return TasksToEmbed(self, project_id, task_ids)

    def is_complete(self, project_id: int) -> bool:
        """Return whether every crop that the encoder in use has embedded was tried with this one too."""
        still = (*self._is_open(project_id, None), TaskRow.embedding_row.is_not(None))
        with self._reading() as session:
            return session.execute(select(TaskRow.id).where(*still).limit(1)).first() is None

    def count_failed(self, project_id: int) -> int:
        """Return how many crops the encoder in use has embedded and this one could not."""
        failed = (
            *self._mine(project_id),
            OtherEmbeddingRow.embedding_row.is_(None),
            TaskRow.project_id == project_id,
            TaskRow.id == OtherEmbeddingRow.task_id,
            TaskRow.embedding_row.is_not(None),
        )
        with self._reading() as session:
            return session.scalar(select(func.count()).where(*failed)) or 0

    def open_tasks(self, project_id: int, among: list[int] | None, after: int | None) -> list[Task]:
        """Return the next tasks to embed, by id: `among` these, with a larger id than `after`."""
        query = TASKS.where(*self._is_open(project_id, among)).order_by(TaskRow.id).limit(CHUNK)
        if after is not None:
            query = query.where(TaskRow.id > after)
        with self._reading() as session:
            # As new tasks: which row the encoder in use has made of them is of no interest here.
            return [Task(row.id, row.image_url) for row in session.execute(query)]

    def count_open(self, project_id: int, among: list[int] | None) -> int:
        """Return how many tasks `among` these are to be embedded."""
        with self._reading() as session:
            query = select(func.count()).where(*self._is_open(project_id, among))
            return session.scalar(query) or 0

    def still_open(self, project_id: int, task_ids: Iterable[int]) -> set[int]:
        """Return which of these tasks are still to be embedded."""
        with self._reading() as session:
            return {
                id_
                for some in chunks(task_ids)
                for (id_,) in session.execute(select(TaskRow.id).where(*self._is_open(project_id, some)))
            }

    def rows_of(self, project_id: int, digests: Iterable[bytes]) -> dict[bytes, int]:
        """Return a row of the embedding file for each of these digests that has one."""
        found = select(OtherEmbeddingRow.digest, OtherEmbeddingRow.embedding_row).where(
            *self._mine(project_id), OtherEmbeddingRow.embedding_row.is_not(None)
        )
        with self._reading() as session:
            return {
                digest: row
                for some in chunks(digests)
                for digest, row in session.execute(found.where(OtherEmbeddingRow.digest.in_(some)))
                if digest is not None and row is not None
            }

    def embedded_until(self, project_id: int, on_disk: int) -> int:
        """Return the end of the rows: all that are on disk, so that none is ever written over."""
        del project_id
        return on_disk

    def end(self, project_id: int) -> int:
        """Return the end of the rows that a task points at; 0 if none does."""
        query = select(func.max(OtherEmbeddingRow.embedding_row)).where(*self._mine(project_id))
        with self._reading() as session:
            last = session.scalar(query)
            return 0 if last is None else last + 1

    def embedding_rows(self, project_id: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the tasks that have a row of this encoder, and that row, as `Tasks.embedding_rows` does."""
        query = (
            select(OtherEmbeddingRow.task_id, OtherEmbeddingRow.embedding_row)
            .where(*self._mine(project_id), OtherEmbeddingRow.embedding_row.is_not(None))
            .order_by(OtherEmbeddingRow.task_id)
        )
        with self._reading() as session:
            found = np.fromiter(chain.from_iterable(session.connection().execute(query)), dtype=np.int64)
        return found[::2].copy(), found[1::2].copy()

    def save_embedded(
        self,
        project_id: int,
        rows: Mapping[int, int],
        *,
        digests: Mapping[int, bytes] | None = None,
        read_from: Mapping[int, str | None] | None = None,
    ) -> None:
        """Record in which row of the embedding file each task's crop is, as `Embeddings.save_embedded` does."""
        digests = digests or {}
        with self._writing(project_id) as session:
            shown = addresses(session, project_id, rows, with_text=read_from is not None)
            self._replace(
                session,
                project_id,
                {
                    id_: {"embedding_row": row, "digest": digests.get(id_), "problem": None}
                    for id_, row in rows.items()
                    if id_ in shown and (read_from is None or shown[id_] == read_from[id_])
                },
            )

    def save_problems(self, project_id: int, problems: Mapping[int, str]) -> None:
        """Record why this encoder cannot embed each of these tasks' crops."""
        with self._writing(project_id) as session:
            shown = addresses(session, project_id, problems, with_text=False)
            empty = {"embedding_row": None, "digest": None}
            self._replace(
                session,
                project_id,
                {id_: {**empty, "problem": why} for id_, why in problems.items() if id_ in shown},
            )

    def forget_problems(self, project_id: int) -> None:
        """Mark every crop that this encoder could not embed to be tried again."""
        with self._writing(project_id) as session:
            failed = OtherEmbeddingRow.embedding_row.is_(None)
            session.execute(delete(OtherEmbeddingRow).where(*self._mine(project_id), failed))

    def forget(self, project_id: int) -> None:
        """Forget every row of this encoder."""
        with self._writing(project_id) as session:
            session.execute(delete(OtherEmbeddingRow).where(*self._mine(project_id)))

    def _replace(self, session: Session, project_id: int, values: Mapping[int, Mapping[str, Any]]) -> None:
        for some in chunks(values):
            session.execute(
                delete(OtherEmbeddingRow).where(*self._mine(project_id), OtherEmbeddingRow.task_id.in_(some))
            )
            session.execute(
                insert(OtherEmbeddingRow),
                [
                    {"project_id": project_id, "encoder": self._encoder, "task_id": id_, **values[id_]}
                    for id_ in some
                ],
            )

    def _mine(self, project_id: int) -> list[ColumnElement[bool]]:
        return [OtherEmbeddingRow.project_id == project_id, OtherEmbeddingRow.encoder == self._encoder]

    def _is_open(self, project_id: int, among: list[int] | None) -> list[ColumnElement[bool]]:
        done = exists().where(*self._mine(project_id), OtherEmbeddingRow.task_id == TaskRow.id)
        conditions = [
            TaskRow.project_id == project_id,
            TaskRow.image_url.is_not(null()),
            TaskRow.problem.is_(None),
            ~done,
        ]
        return conditions if among is None else [*conditions, TaskRow.id.in_(among)]
