"""Requests of other processes to the trainer: to sync a project, or to embed crops that `/predict` waits for.

A request may be lost, repeated or late: who asks for crops waits a few seconds and asks again with the next call,
and every project is checked once a minute. Webhooks, of which none may be lost, are `Events`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Float, delete, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from everylabel.backend.store.changes import Changes
from everylabel.backend.store.database import Database, chunks, waited
from everylabel.backend.store.tables import Id, SortedText

log = logging.getLogger(__name__)


class RequestsBase(DeclarativeBase):
    """The table of requests; with SQLite in a file of its own, which no webhook waits for."""


class RequestRow(RequestsBase):
    """A request that no trainer has taken yet."""

    __tablename__ = "requests"
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    project_id: Mapped[int] = mapped_column(Id)
    task_ids: Mapped[str] = mapped_column(SortedText)
    asked_at: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")


@dataclass(frozen=True)
class Request:
    """A request that no trainer has taken yet."""

    id: int
    project_id: int
    task_ids: tuple[int, ...]
    """Tasks whose crops are to be embedded; none where the project is to be synced."""


class Requests(Database):
    """Requests in a SQL database that web servers and trainers share.

    Args:
        url: Its address, as SQLAlchemy takes it.
    """

    def __init__(self, url: str) -> None:
        # A power cut may take the newest with it, and nobody waits for the disk.
        super().__init__(url, base=RequestsBase, pragmas={"synchronous": "NORMAL"})
        self._changes = Changes(url)

    def close(self) -> None:
        """Close every connection."""
        self._changes.close()
        super().close()

    def has_changed(self) -> bool:
        """Return whether anything may have been written since the last call; for one thread alone."""
        return self._changes.since_last_look()

    def add(self, project_id: int, task_ids: Sequence[int] = ()) -> None:
        """Ask for these tasks' crops; with none, for a sync of the project."""
        with self._writing() as session:
            session.execute(
                insert(RequestRow).values(
                    project_id=project_id, task_ids=json.dumps(list(task_ids)), asked_at=time.time()
                )
            )

    def waiting(self) -> list[Request]:
        """Return the requests that nobody has taken, in the order they came."""
        query = select(RequestRow.id, RequestRow.project_id, RequestRow.task_ids).order_by(RequestRow.id)
        with self._session() as session:
            rows = session.execute(query).all()
        found = {id_: (project_id, _task_ids(text)) for id_, project_id, text in rows}
        if damaged := [id_ for id_, (_, task_ids) in found.items() if task_ids is None]:
            log.error("%d requests were damaged on disk and are left out", len(damaged))
            self.take(damaged)
        return [
            Request(id_, project_id, task_ids)
            for id_, (project_id, task_ids) in found.items()
            if task_ids is not None
        ]

    def count(self) -> int:
        """Return how many requests nobody has taken."""
        with self._session() as session:
            return session.execute(select(func.count()).select_from(RequestRow)).scalar_one()

    def longest_wait(self) -> float:
        """Return for how many seconds the oldest request has waited that nobody has taken; 0 where there is none."""
        query = select(func.min(RequestRow.asked_at)).where(RequestRow.asked_at > 0)
        with self._session() as session:
            oldest = session.execute(query).scalar_one()
        return 0.0 if oldest is None else waited(oldest, time.time())

    def take(self, ids: Collection[int]) -> set[int]:
        """Take requests, and return those of them that no other trainer has taken before."""
        if not ids:
            return set()
        with self._writing() as session:
            return {
                id_
                for some in chunks(ids)
                for id_ in session.scalars(
                    delete(RequestRow).where(RequestRow.id.in_(some)).returning(RequestRow.id)
                )
            }


def _task_ids(text: object) -> tuple[int, ...] | None:
    """Return what a row asks for; None where it is damaged."""
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if not isinstance(found, list) or not all(isinstance(id_, int) for id_ in found):
        return None
    return tuple(found)
