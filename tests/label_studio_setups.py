"""Label Studio as larger teams run it: on PostgreSQL, with Redis and rq workers, and in several processes at once."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from everylabel.scripts.local_label_studio.install import environment_in, install
from everylabel.scripts.local_label_studio.server import LabelStudioServer
from tests.servers import Postgres, Redis

DATABASES = ("sqlite", "postgresql")

#: Community reads no address of a Redis from its environment: its settings say `REDIS_ENABLED = False`. A module of
#: one's own in front of them is what switches it on.
SETTINGS_MODULE = "label_studio_with_redis"
SETTINGS = """
from label_studio.core.settings.base import *  # read while those below are being made
from label_studio.core.settings.label_studio import *

REDIS_ENABLED = True
RQ_QUEUES = {{
    name: {{"UNIX_SOCKET_PATH": {socket!r}, "DB": 0, "DEFAULT_TIMEOUT": 180}}
    for name in ("critical", "high", "default", "low")
}}
"""


def first_start(executable: Path) -> Path | None:
    """Return what a first start of Label Studio leaves: its tables and its first user; None where none can be kept.

    Making them takes a minute of processor, so it is done once for each environment.
    """
    started = executable.resolve().parent.parent / "first-start"
    if not os.access(started.parent, os.W_OK):
        return None
    with FileLock(started.with_suffix(".lock")):
        if not started.is_dir():
            unfinished = started.with_suffix(".partial")
            shutil.rmtree(unfinished, ignore_errors=True)
            with LabelStudioServer(unfinished, executable=executable):
                pass
            unfinished.rename(started)
    return started


def start_with_tables(folder: Path, executable: Path) -> None:
    """Put a first start into a new data folder. The demo's tests and those on PostgreSQL start with nothing."""
    started = first_start(executable)
    if started is not None:
        shutil.copytree(started, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.lock", "*.log"))


def postgresql_settings(postgres: Postgres) -> dict[str, str]:
    """Return the environment that puts a Label Studio on a new, empty database."""
    return {
        "DJANGO_DB": "default",
        "POSTGRE_HOST": str(postgres.folder),
        "POSTGRE_PORT": "5432",
        "POSTGRE_USER": "postgres",
        "POSTGRE_NAME": postgres.new_database(),
    }


def redis_settings(redis: Redis, folder: Path) -> dict[str, str]:
    """Return the environment that lets a Label Studio give its background work to rq workers.

    Args:
        redis: the server, emptied here.
        folder: where the settings module is written.
    """
    redis.empty()
    folder.mkdir(parents=True, exist_ok=True)
    text = SETTINGS.format(socket=str(redis.folder / "socket"))
    (folder / f"{SETTINGS_MODULE}.py").write_text(text, encoding="utf-8")
    return {"DJANGO_SETTINGS_MODULE": SETTINGS_MODULE, "PYTHONPATH": str(folder)}


class RqWorkers:
    """The processes in which Label Studio sends webhooks once it has a Redis, oldest job first.

    Args:
        server: the Label Studio whose work they do.
        count: how many of them; two or more do jobs out of order.
    """

    def __init__(self, server: LabelStudioServer, count: int = 2) -> None:
        self._server = server
        self._count = count
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start them; none waits until they are ready."""
        executable = self._server.executable
        assert executable is not None
        (manage,) = executable.parent.parent.glob("lib/python*/site-packages/label_studio/manage.py")
        queues = ("critical", "high", "default", "low")
        with (self._server.data_dir / "rq-workers.log").open("ab") as log:
            self._running = [
                subprocess.Popen(
                    [executable.parent / "python", manage, "rqworker", *queues],
                    env=self._server.environment(os.environ, self._server.credentials),
                    cwd=self._server.data_dir,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                for _ in range(self._count)
            ]

    def stop(self) -> None:
        """End them at once, with what they are doing."""
        for worker in self._running:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        self._running = []


@contextmanager
def second_process(first: LabelStudioServer, folder: Path) -> Iterator[LabelStudioServer]:
    """Run another web process of the same Label Studio: the same database, files and users, and a port of its own.

    Args:
        first: the one that runs already, on a database that takes several.
        folder: for this process's log.
    """
    folder.mkdir(parents=True)
    shutil.copy(first.data_dir / "credentials.json", folder)
    shared = {**first.extra_environment, "LABEL_STUDIO_BASE_DATA_DIR": str(first.data_dir)}
    with LabelStudioServer(folder, executable=first.executable, extra_environment=shared) as server:
        yield server


if __name__ == "__main__":  # ahead of the tests
    first_start(install(environment_in(Path(".everylabel"))))
