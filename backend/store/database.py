"""The database behind the store: its engine, and one transaction that writes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, TypeVar

from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.schema import CreateColumn

from everylabel.backend.store.tables import Base

T = TypeVar("T")
CHUNK = 500  # ids in one statement: every database takes that many parameters
PRAGMAS = {
    "journal_mode": "WAL",  # the web process answers while the trainer writes
    "synchronous": "FULL",
    "busy_timeout": 30_000,
    "foreign_keys": "ON",
}
POSTGRESQL = {
    "lock_timeout": 30_000,
    "idle_in_transaction_session_timeout": 600_000,
    # A machine that loses its power closes no connection: PostgreSQL finds out by itself, and frees its locks.
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
}
"""How each session behaves; times of locks and transactions in milliseconds, of keep-alives in seconds."""
CONNECT_SECONDS = 10
CLOCKS_DIFFER_SECONDS = 300.0
"""How far the clocks of machines that share a database may differ: what is further in the future was written before a
clock was set back."""
LARGEST_ID = 2**63 - 1
"""What a database takes as an id."""


class StorageError(RuntimeError):
    """The disk is full, or the database does not answer; the message says which."""


class Database:
    """The base of every part of the store.

    Args:
        url: an address as SQLAlchemy takes it.
        clock: seconds since the epoch.
        base: its tables.
        pragmas: settings of SQLite beyond `PRAGMAS`.

    Raises:
        StorageError: PostgreSQL does not answer, refuses the login, or its driver is not installed; or the file of
            SQLite is damaged.
    """

    def __init__(
        self,
        url: str,
        clock: Callable[[], float] = time.time,
        base: type[DeclarativeBase] = Base,
        pragmas: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self._clock = clock
        self._engine = make_engine(url, {**PRAGMAS, **pragmas})
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        try:
            self._make_tables(base)
        except OperationalError as error:
            if self._is_sqlite:
                raise
            why = " ".join(str(error.orig).split())
            raise StorageError(
                f"The database {self._engine.url.render_as_string()} does not answer or refuses the login "
                f"({why}). Is EVERYLABEL_DATABASE_URL right?"
            ) from error
        except DatabaseError as error:
            if not self._is_sqlite:
                raise
            # SQLite says so of a file that is none of its own, or has been written over.
            raise StorageError(
                f"The store {self._engine.url.database} is damaged ({error.orig}). Stop the backend, then put back a backup of "
                "it; or move the file aside, with those of its name and -wal or -shm at the end, and run "
                "`everylabel connect` for each project: labels are read from Label Studio again."
            ) from error
        self._session = sessionmaker(self._engine, expire_on_commit=False)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def _writing(self, project_id: int | None = None) -> Iterator[Session]:
        """Open a transaction that writes: what it reads still holds when it writes, whatever others do.

        SQLite has one writer at a time, and takes the lock for it only at the first write unless it is told.
        PostgreSQL has one for each project; without a project, none waits.
        """
        with self._session.begin() as session:
            if self._is_sqlite:
                session.execute(text("BEGIN IMMEDIATE"))
            elif project_id is not None:
                session.execute(_LOCK, {"key": lock_key(f"writing {project_id}")})
            yield session

    def _make_tables(self, base: type[DeclarativeBase]) -> None:
        with self._engine.begin() as connection:
            # The web server and the trainer start together: one makes the tables, the other finds them.
            if self._is_sqlite:
                connection.execute(text("BEGIN IMMEDIATE"))
            else:
                connection.execute(_LOCK, {"key": lock_key("tables")})
            base.metadata.create_all(connection)
            _add_what_came_later(connection, base)


_LOCK = text("SELECT pg_advisory_xact_lock(:key)")


def waited(since: float, now: float) -> float:
    """Return for how many seconds something has waited; where the clock was set back meanwhile, by how many it was.

    Args:
        since: When it began to wait, in seconds since 1970.
        now: The same clock's time.
    """
    return max(0.0, now - since) if now - since >= -CLOCKS_DIFFER_SECONDS else since - now


def lock_key(name: str) -> int:
    """Return the number by which PostgreSQL knows a lock of ours."""
    return int.from_bytes(blake2b(f"everylabel {name}".encode(), digest_size=8).digest(), "big", signed=True)


def chunks(ids: Iterable[T]) -> Iterable[list[T]]:
    """Split ids into lists, each as long as one statement may hold."""
    ids = list(ids)
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def make_engine(
    url: str, pragmas: Mapping[str, object] = MappingProxyType(PRAGMAS), **options: Any
) -> Engine:
    """Create an engine for the address of a store, with the settings that its database needs.

    Raises:
        StorageError: the driver of the database is not installed.
    """
    if not url.startswith("sqlite"):
        session = " ".join(f"-c {name}={value}" for name, value in POSTGRESQL.items())
        options["connect_args"] = {"connect_timeout": CONNECT_SECONDS, "options": session}
    try:
        engine = create_engine(url, pool_pre_ping=True, **options)
    except ModuleNotFoundError as error:
        raise StorageError(
            f"EVERYLABEL_DATABASE_URL needs {error.name}: pip install 'everylabel[postgresql]'"
        ) from error
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _set_pragmas(connection: Any, _record: Any) -> None:
            cursor = connection.cursor()
            for name, value in pragmas.items():
                _set_pragma(cursor, name, value)
            cursor.close()

    return engine


def _set_pragma(cursor: Any, name: str, value: object) -> None:
    """Set a pragma, waiting for others that use the database.

    SQLite waits by itself, except where several connections turn a new file into a write-ahead log at once: all but
    one are told immediately that it is locked.
    """
    until = time.monotonic() + CONNECT_SECONDS
    while not _is_set(cursor, f"PRAGMA {name}={value}", last=time.monotonic() > until):
        time.sleep(0.01)


def _is_set(cursor: Any, pragma: str, *, last: bool) -> bool:
    try:
        cursor.execute(pragma)
    except sqlite3.OperationalError as error:
        if last or "locked" not in str(error):
            raise
        return False
    return True


def _add_what_came_later(connection: Connection, base: type[DeclarativeBase]) -> None:
    """Add the columns that a database of an earlier version lacks; a later column has a server default."""
    found = inspect(connection)
    for table in base.metadata.sorted_tables:
        held = {column["name"] for column in found.get_columns(table.name)}
        for column in table.columns:
            if column.name not in held:
                wanted = CreateColumn(column).compile(dialect=connection.dialect)
                connection.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {wanted}"))
        for index in table.indexes:
            index.create(connection, checkfirst=True)
