"""A disk or a database that accepts nothing is logged in a line, a fault of ours with its traceback."""

from __future__ import annotations

import errno
import logging
import sqlite3

import pytest
from sqlalchemy.exc import OperationalError

from everylabel.backend.storage_failures import log_failure
from everylabel.backend.store import StorageError

log = logging.getLogger("everylabel.test")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OperationalError("", {}, sqlite3.OperationalError("database or disk is full")), "disk is full"),
        (StorageError("The store is full."), "The store is full."),
    ],
    ids=["disk", "database", "store"],
)
def test_what_an_administrator_can_mend_is_told_in_a_line(caplog, error, reason):
    log_failure(log, error, "project %s: a job failed", 7)
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage().startswith(
        "project 7: a job failed: the disk or the database accepts nothing ("
    )
    assert reason in record.getMessage()
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize("error", [ValueError("a fault"), OSError(errno.ECONNRESET, "gone")])
def test_anything_else_keeps_its_traceback(caplog, error):
    log_failure(log, error, "project %s: a job failed", 7)
    (record,) = caplog.records
    assert record.exc_info[1] is error
