"""Servers for the tests, in empty folders of their own, ended with the tests: Debian's PostgreSQL and Redis, moto's S3."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.everylabel_process import free_port, wait_until

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
        self._names = count()
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

    def new_database(self) -> str:
        """The name of a new database beside that one: Label Studio's, which goes on while tests empty the other."""
        name = f"database_{next(self._names)}"
        with self._driver.connect(
            f"postgresql://postgres@/postgres?host={self.folder}", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

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

    def length(self, name: str) -> int:
        """How many items a list has."""
        return int(self._client.Redis.from_url(f"unix://{self.folder / 'socket'}").llen(name))


class S3(_Server):
    """An S3 on a port of this machine, empty but for one bucket.

    Attributes:
        environment: what a process needs to use it.
        client: a client of its own.
    """

    BUCKET = "bucket"

    def __init__(self) -> None:
        pytest.importorskip("s3fs", reason="pip install s3fs")
        pytest.importorskip("moto", reason="pip install 'everylabel[test]'")
        super().__init__("s3")
        port = free_port()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://localhost:{port}",
            "AWS_ACCESS_KEY_ID": "everylabel",
            "AWS_SECRET_ACCESS_KEY": "no secret",
        }
        self._start([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)])
        wait_until(self._answers, f"moto does not answer, see {self.folder}/log")
        self.client: Any = pytest.importorskip("boto3").client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="tests",
            aws_secret_access_key="no secret",
            region_name="us-east-1",
        )
        self.client.create_bucket(Bucket=self.BUCKET)

    def requests(self) -> list[tuple[str, str]]:
        """Method and path of every request that was answered, the oldest first."""
        log = re.sub(r"\x1b\[\d+m", "", (self.folder / "log").read_text(encoding="utf-8"))
        return re.findall(r'"([A-Z]+) (\S+) HTTP/1.1" \d+ -', log)

    @contextmanager
    def refusing_strangers(self) -> Iterator[None]:
        """For that long every key is unknown."""
        address = f"{self.environment['AWS_ENDPOINT_URL']}/moto-api/reset-auth"
        httpx.post(address, content="0").raise_for_status()
        try:
            yield
        finally:
            httpx.post(address, content="inf").raise_for_status()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """For that long nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.environment['AWS_ENDPOINT_URL']}/moto-api/data.json").is_success
        except httpx.TransportError:
            return False
