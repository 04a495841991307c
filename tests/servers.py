"""PostgreSQL and Redis for the tests: Debian's own, with empty folders of their own, ended with the test session."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.everylabel_process import wait_until

MISSING = (
    "{} is missing, the tests of several machines need it: sudo apt-get install -y --no-install-recommends {}"
)


def missing(what: str, package: str) -> None:
    """Skip the test, or fail it where CI=true."""
    why = MISSING.format(what, package)
    if os.environ.get("CI") == "true":
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


class _Server:
    """A server process in a folder of its own, on a Unix socket there: nothing else can reach it."""

    def __init__(self, name: str, user: str | None = None) -> None:
        # Not one of pytest's own folders: those only root may enter, and a socket's path must be short.
        self.folder = Path(tempfile.mkdtemp(prefix=f"everylabel-{name}-"))
        self._as: dict[str, str | int | list[str]] = {}
        if user is not None and os.getuid() == 0:
            found = pwd.getpwnam(user)
            os.chown(self.folder, found.pw_uid, found.pw_gid)
            self._as = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None

    def _run(self, *command: str | Path) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, timeout=60, **self._as)  # type: ignore[call-overload]

    def _start(self, command: Sequence[str | Path]) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # type: ignore[call-overload]
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, **self._as
            )

    def stop(self) -> None:
        """End the server: at once, for nobody needs what it holds."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(_Server):
    """A PostgreSQL."""

    def __init__(self) -> None:
        self._driver = pytest.importorskip("psycopg", reason="pip install 'everylabel[postgresql]'")
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        program = found[-1] if found else Path(shutil.which("postgres") or "")
        if not program.name:
            missing("PostgreSQL", "postgresql")
        super().__init__("postgres", user="postgres")  # it refuses to run as root
        data = self.folder / "data"
        # Sorted as a language does, unless a column says otherwise: so are databases people already have.
        locale = ("--locale-provider=icu", "--icu-locale=en", "--locale=C.UTF-8", "--encoding=UTF8")
        self._run(program.with_name("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N", *locale)
        self._program = program
        self.start()

    def start(self) -> None:
        """Start it on what it holds."""
        hasty = [f"--{name}=off" for name in ("fsync", "full_page_writes", "autovacuum")]
        self._start(
            [self._program, "-D", self.folder / "data", "-k", self.folder, "--listen_addresses=", *hasty]
        )
        wait_until(
            (self.folder / ".s.PGSQL.5432").exists,
            f"PostgreSQL has not started, see {self.folder}/log",
        )
        wait_until(self._answers, f"PostgreSQL does not answer, see {self.folder}/log")

    def empty(self) -> str:
        """The address of its one database, emptied of what the test before has left."""
        url = f"postgresql://postgres@/postgres?host={self.folder}"
        with self._driver.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return url

    def _answers(self) -> bool:
        ready = [self._program.with_name("pg_isready"), "-q", "-h", self.folder]
        return subprocess.run(ready, check=False, timeout=20).returncode == 0


class Redis(_Server):
    """A Redis that keeps nothing on disk."""

    def __init__(self) -> None:
        self._client = pytest.importorskip("redis", reason="pip install 'everylabel[redis]'")
        program = shutil.which("redis-server")
        if program is None:
            missing("Redis", "redis-server")
        super().__init__("redis")
        self._program = Path(str(program))
        self.start()

    def start(self) -> None:
        """Start it, empty."""
        socket = self.folder / "socket"
        self._start(
            [
                *(self._program, "--port", "0", "--unixsocket", socket, "--dir", self.folder),
                *("--save", "", "--appendonly", "no"),
            ]
        )
        wait_until(socket.exists, f"Redis has not started, see {self.folder}/log")

    def empty(self) -> str:
        """Its address, emptied of what the test before has left."""
        url = f"unix://{self.folder / 'socket'}"
        self._client.Redis.from_url(url).flushall()
        return url
