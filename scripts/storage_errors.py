"""Errors of a disk or a database that cannot be used, in one sentence, whichever command meets them."""

from __future__ import annotations

import sys

from everylabel.backend.storage_failures import NOT_USABLE

WAY_OUT = "Check the space on the disk and the permissions of MODEL_DIR"


def in_a_sentence(error: Exception) -> str | None:
    """Return what cannot be used and what to do, or None if the error is about something else.

    SQLAlchemy is looked up among what is loaded: a command that has not loaded it cannot have met its errors.
    """
    if isinstance(error, OSError):
        if error.errno not in NOT_USABLE:
            return None
        return f"{error.filename or 'A file'} cannot be read or written ({error.strerror}). {WAY_OUT}, and run the command again."
    known = sys.modules.get("sqlalchemy.exc")
    if known is not None and isinstance(error, known.OperationalError):
        return (
            f"The backend's database accepts nothing at the moment ({error.orig}). {WAY_OUT}, or that the database of "
            "EVERYLABEL_DATABASE_URL answers, and run the command again."
        )
    store = sys.modules.get("everylabel.backend.store")
    return str(error) if store is not None and isinstance(error, store.StorageError) else None
