"""Locks between processes: one at a time, and free again when the holder is killed, on files and in PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from filelock import Timeout
from sqlalchemy import text

from everylabel.backend.settings import Settings
from everylabel.backend.store.database import make_engine
from everylabel.backend.store.files import ProjectFiles
from everylabel.backend.store.locks import DatabaseLocks, file_lock

HOLD = """
import sys, time
from pathlib import Path
from everylabel.backend.store.locks import DatabaseLocks, file_lock
folder, url = Path(sys.argv[1]), sys.argv[2]
locks = DatabaseLocks(url, folder) if url else file_lock
with locks(folder / "projects" / "7" / "round.lock", 0):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["files", "postgresql"])
def address(request):
    """Where the store is, and with it the locks; empty for SQLite."""
    return "" if request.param == "files" else request.getfixturevalue("postgres").empty()


@pytest.fixture
def locks(address, tmp_path):
    if not address:
        return file_lock
    return DatabaseLocks(Settings(database_url=address).store_url, tmp_path)


@pytest.fixture
def files(locks, tmp_path):
    return ProjectFiles(tmp_path, 7, locks)


def test_one_holds_it_and_others_wait_or_give_up(files):
    done = []

    def wait():
        with files.lock():
            done.append("waited")

    with files.lock():
        with pytest.raises(Timeout), files.lock(timeout=0):
            pass
        with pytest.raises(Timeout), files.lock(timeout=0.2):
            pass
        waiting = threading.Thread(target=wait)
        waiting.start()
        done.append("held")
    waiting.join(10)
    assert done == ["held", "waited"]


def test_other_projects_and_other_work_do_not_wait(files, locks, tmp_path):
    with files.lock(), ProjectFiles(tmp_path, 8, locks).lock(0), files.embedding_lock(), files.drawing_lock():
        pass


def test_what_fails_inside_frees_it(files):
    with pytest.raises(ZeroDivisionError), files.lock():
        raise ZeroDivisionError
    with files.lock(timeout=0):
        pass


def test_a_killed_holder_holds_no_longer(files, address, tmp_path):
    files.folder.mkdir(parents=True)
    url = Settings(database_url=address).store_url if address else ""
    command = [sys.executable, "-c", HOLD, str(tmp_path), url]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Timeout), files.lock(timeout=0):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with files.lock(timeout=60):
        pass


def test_the_folder_may_lie_elsewhere_on_each_machine(postgres, tmp_path):
    url = Settings(database_url=postgres.empty()).store_url
    here, there = (ProjectFiles(tmp_path / at, 7, DatabaseLocks(url, tmp_path / at)) for at in ("a", "b"))
    with here.lock(), pytest.raises(Timeout), there.lock(timeout=0):
        pass


def test_postgresql_names_the_holder_and_a_lost_lock_is_told_of(postgres, tmp_path, caplog):
    url = Settings(database_url=postgres.empty()).store_url
    files = ProjectFiles(tmp_path, 7, DatabaseLocks(url, tmp_path))
    look = make_engine(url, isolation_level="AUTOCOMMIT")
    holders = text(
        "SELECT application_name, a.pid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
        "WHERE l.locktype = 'advisory'"
    )
    with files.lock(), look.connect() as connection:
        ((name, pid),) = connection.execute(holders)
        assert name.endswith(f" {os.getpid()}")
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    assert "the lock projects/7/round.lock was lost" in caplog.text
    with files.lock(timeout=60):
        pass
    look.dispose()
