"""Errors of one crop, which never stop the work on the others."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

log = logging.getLogger(__name__)


MOST_LOGGED = 100
"""Tracebacks of unexpected errors that one process logs: each comes from another line of the code."""


class ImageError(Exception):
    """A task's image cannot be read. The message says what is wrong and what helps, and holds no token."""

    retry = False
    """True if the same request may succeed later, without a change to the task."""

    def __init__(self, reason: str, way_out: str) -> None:
        super().__init__(f"{reason}. {way_out}")
        self.reason = reason
        self.way_out = way_out

    def without_traceback(self) -> ImageError:
        """Return this error to be kept: its traceback, and those of its causes, would keep the file and its pixels too."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class UnexpectedImageError(ImageError):
    """Something unforeseen went wrong with one crop: a bug of ours, and no reason to stop the others."""

    def __init__(self, what: str, error: Exception) -> None:
        super().__init__(
            f"{what} could not be read: unexpected {type(error).__name__}",
            "Correct or delete the task; the backend's log has the traceback, which a report of this fault needs",
        )


@contextmanager
def one_crop_only(what: str) -> Iterator[None]:
    """Turn any exception inside into an `ImageError`: a bad crop never stops the others.

    The traceback is logged the first time that a line of the code fails in this way, and not for each crop.

    Args:
        what: what messages call the crop; no address, which may hold a secret.

    Raises:
        ImageError: as it is, or an `UnexpectedImageError` in place of any other exception.
    """
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        _log_once(error)
        raise UnexpectedImageError(what, error) from error


_logged: set[tuple[str, str, int]] = set()


_logging = Lock()


def _log_once(error: Exception) -> None:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = ("", 0) if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    with _logging:
        known = (type(error).__name__, *where) in _logged or len(_logged) >= MOST_LOGGED
        _logged.add((type(error).__name__, *where))
    if not known:
        # Its text may quote an address with a signature: the lines of the code are enough.
        log.error(
            "a crop could not be read: unexpected %s; others that fail in the same place are not logged again\n%s",
            type(error).__name__,
            "".join(traceback.format_tb(error.__traceback__)),
        )
