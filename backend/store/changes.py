"""A look at a database that says if anybody has written into it: it costs microseconds, a hundredth of a query."""

from __future__ import annotations

import sqlite3

from sqlalchemy.engine import make_url


class Changes:
    """Commits to one database by any connection but the one that is held here. Not for several threads at once.

    SQLite counts them (`PRAGMA data_version`, sqlite.org/pragma.html). PostgreSQL does not: there, something may always have
    changed, as it may with SQLite where the file cannot be read.

    Args:
        url: The database's address, as SQLAlchemy takes it.
    """

    def __init__(self, url: str) -> None:
        address = make_url(url)
        self._path = address.database if address.get_backend_name() == "sqlite" else None
        self._connection: sqlite3.Connection | None = None
        self._version: int | None = None

    def since_last_look(self) -> bool:
        """Return whether something may have been written since the last call; true at the first."""
        if self._path is None:
            return True
        before, self._version = self._version, self._read(self._path)
        return self._version is None or self._version != before

    def close(self) -> None:
        """Close the connection; the next look opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read(self, path: str) -> int | None:
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(path, timeout=1.0, check_same_thread=False)
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            self.close()
            return None
