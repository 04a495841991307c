"""Tell a disk or a database that accepts nothing from a fault of ours: it needs a sentence in the log, and no traceback."""

from __future__ import annotations

import errno
import logging
import sys

NOT_USABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""The reasons why a file is neither read nor written that whoever runs the backend can do something about."""


def is_storage_failure(error: BaseException) -> bool:
    """Return whether an error is that of a disk or a database.

    SQLAlchemy and the store are looked up among what is loaded: who has not loaded them cannot have met their errors.
    """
    if isinstance(error, OSError):
        return error.errno in NOT_USABLE
    known = sys.modules.get("sqlalchemy.exc")
    if known is not None and isinstance(error, known.OperationalError):
        return True
    store = sys.modules.get("everylabel.backend.store")
    return store is not None and isinstance(error, store.StorageError)


def log_failure(log: logging.Logger, error: Exception, message: str, *about: object) -> None:
    """Log an error that is tried again: with its traceback, unless it is a disk or a database that accepts nothing.

    Args:
        log: The logger of the module that met it.
        error: The error.
        message: What failed, with the places of `about`.
        about: What the message is about.
    """
    if is_storage_failure(error):
        reason = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
        log.error(message + ": the disk or the database accepts nothing (%s)", *about, reason)
    else:
        log.error(message, *about, exc_info=error)
