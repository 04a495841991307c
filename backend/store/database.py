"""The database behind the store: its engine, and one transaction that writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.schema import CreateColumn

from backend.store.tables import Base

CHUNK = 500  # ids in one statement: every database takes that many parameters
PRAGMAS = {
    "journal_mode": "WAL",  # the web process answers while the trainer writes
    "synchronous": "FULL",
    "busy_timeout": 30_000,
    "foreign_keys": "ON",
}


class StorageError(RuntimeError):
    """The disk takes nothing more, or the database does not answer; the message says which."""


class Database:
    """What every part of the store shares.

    Args:
        url: an address as SQLAlchemy takes it.
        clock: seconds since the epoch.
        base: its tables.
        pragmas: how SQLite is to behave, beyond `PRAGMAS`.
    """

    def __init__(
        self,
        url: str,
        clock: Callable[[], float] = time.time,
        base: type[DeclarativeBase] = Base,
        pragmas: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self._clock = clock
        self._engine = _engine(url, {**PRAGMAS, **pragmas})
        with self._engine.begin() as connection:
            if self._engine.dialect.name == "sqlite":
                # The web server and the trainer start together: one makes the tables, the other finds them.
                connection.execute(text("BEGIN IMMEDIATE"))
            base.metadata.create_all(connection)
            _add_what_came_later(connection, base)
        self._session = sessionmaker(self._engine, expire_on_commit=False)

    def close(self) -> None:
        """Give every connection back."""
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        """One transaction that writes.

        SQLite takes its write lock only at the first write. Taken at the start, what is read in the
        transaction still holds when it writes, also with two processes at work.
        """
        with self._session.begin() as session:
            if self._engine.dialect.name == "sqlite":
                session.execute(text("BEGIN IMMEDIATE"))
            yield session


def chunks(ids: Iterable[int]) -> Iterable[list[int]]:
    """Ids, as many at a time as one statement may hold."""
    ids = list(ids)
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def _add_what_came_later(connection: Connection, base: type[DeclarativeBase]) -> None:
    """Give a database an earlier version made what it lacks; a column that came later has a server default."""
    found = inspect(connection)
    for table in base.metadata.sorted_tables:
        held = {column["name"] for column in found.get_columns(table.name)}
        for column in table.columns:
            if column.name not in held:
                wanted = CreateColumn(column).compile(dialect=connection.dialect)
                connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {wanted}"))
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def _engine(url: str, pragmas: Mapping[str, object]) -> Engine:
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _set_pragmas(connection: Any, _record: Any) -> None:
            cursor = connection.cursor()
            for name, value in pragmas.items():
                cursor.execute(f"PRAGMA {name}={value}")
            cursor.close()

    return engine
