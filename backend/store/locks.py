"""Locks between processes: a file if they share one disk, PostgreSQL if they share only that."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from everylabel.backend.store.database import lock_key, make_engine

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05

Locks = Callable[[Path, float], AbstractContextManager[Any]]
"""Makes the lock of a path: entering waits so many seconds for it, without end below 0, or raises `filelock.Timeout`."""


def file_lock(path: Path, timeout: float) -> AbstractContextManager[Any]:
    """Return a lock among the processes of one machine, released when its holder ends."""
    return FileLock(path, timeout=timeout)


class DatabaseLocks:
    """Locks among all processes that share a PostgreSQL database, on any machine.

    Each is held by a connection of its own, so that it is released when its holder ends, is killed, or its machine
    has been away for 25 seconds. `pg_stat_activity.application_name` names the holder's machine and process.

    Args:
        url: the address of the store.
        within: lock names are paths relative to this folder, which may be elsewhere on each machine.
    """

    def __init__(self, url: str, within: Path) -> None:
        self._engine = make_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._within = within

    def __call__(self, path: Path, timeout: float) -> AbstractContextManager[Any]:
        """Return the lock of a path."""
        return _DatabaseLock(self._engine, path.relative_to(self._within).as_posix(), timeout)


class _DatabaseLock:
    def __init__(self, engine: Engine, name: str, timeout: float) -> None:
        self._engine, self._name, self._timeout = engine, name, timeout
        self._connection: Connection | None = None

    def __enter__(self) -> None:
        until = time.monotonic() + self._timeout
        connection = self._engine.connect()
        try:
            connection.execute(_NAME, {"name": f"everylabel {socket.gethostname()} {os.getpid()}"})
            while not connection.scalar(_TRY, {"key": lock_key(self._name)}):
                if self._timeout >= 0 and time.monotonic() >= until:
                    raise Timeout(self._name)
                time.sleep(POLL_SECONDS)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def __exit__(self, *_: object) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.execute(_FREE, {"key": lock_key(self._name)})
        except DBAPIError as error:
            log.warning(
                "the lock %s was lost with the connection to the database (%s)", self._name, error.orig
            )
        finally:
            connection.close()


_NAME = text("SELECT set_config('application_name', :name, false)")
_TRY = text("SELECT pg_try_advisory_lock(:key)")
_FREE = text("SELECT pg_advisory_unlock(:key)")
