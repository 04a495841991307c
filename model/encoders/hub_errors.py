"""Say in words why a model cannot be had from the hub, and the way out. No token, address with one, or header is repeated."""

from __future__ import annotations

import errno
from typing import Any
from urllib.parse import urlsplit

_ELSEWHERE = "Or fetch it on a machine that can (hf download {repository} --local-dir FOLDER), bring the folder here and name it: hf:FOLDER"
_WITH_A_KEY = "set HF_TOKEN where everylabel runs to a token of the hub that may read it"

_CANNOT_BE_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


class HubError(ValueError):
    """A model cannot be had; the message says why and the way out."""


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def explain(error: Exception, repository: str, revision: str | None) -> str:
    """Return why a file could not be fetched, and the way out.

    Args:
        error: What the hub's client raised.
        repository: The model's name on the hub.
        revision: The commit, branch or tag that was asked for.
    """
    from huggingface_hub import constants, errors  # noqa: PLC0415  an optional extra

    elsewhere = _ELSEWHERE.format(repository=repository)
    host = urlsplit(constants.ENDPOINT).hostname or "the hub"
    cause = error
    while _status(cause) is None and isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    if _status(cause) is not None:
        return _answered(cause, errors, repository, revision, host)
    if isinstance(error, OSError) and error.errno in _CANNOT_BE_WRITTEN:
        return f"its files cannot be read or written in the cache ({error.strerror}). HF_HOME names another folder for it."
    if isinstance(error, errors.HFValidationError):
        return f"{repository!r} cannot be the name of a model on the hub."
    if constants.HF_HUB_OFFLINE:
        return f"it is not in the cache here, and HF_HUB_OFFLINE keeps everylabel from asking the hub. Unset it once. {elsewhere}"
    return (
        f"it is not in the cache here, and {host} cannot be reached ({type(cause).__name__}). Check the network (HTTPS_PROXY names a proxy, "
        f"HF_ENDPOINT a mirror). {elsewhere}"
    )


def _answered(cause: Any, errors: Any, repository: str, revision: str | None, host: str) -> str:
    """Return the same where the hub has answered, and refused."""
    page, status = _page(repository), _status(cause)
    elsewhere = _ELSEWHERE.format(repository=repository)
    if isinstance(cause, errors.GatedRepoError):
        return f"its owners let in only people who have agreed to its terms. Read and accept them at {page}, then {_WITH_A_KEY}. {elsewhere}"
    if isinstance(cause, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision}. Those it has are listed at {page}/commits/main"
    if isinstance(cause, errors.RepositoryNotFoundError) or status in (401, 403):
        return _refused(cause, repository, host, status)
    if status == 429:
        return f"{host} answers that it was asked too often (429). Wait a few minutes; with HF_TOKEN set, more is allowed. {elsewhere}"
    return f"{host} answered with an error ({status}). Try again later. {elsewhere}"


def _page(repository: str) -> str:
    """Return the address of a model's page, at the hub or the mirror in use, without a user's name and password."""
    from huggingface_hub import constants  # noqa: PLC0415  an optional extra

    endpoint = urlsplit(constants.ENDPOINT)
    return f"{endpoint.scheme}://{endpoint.netloc.rpartition('@')[2]}{endpoint.path.rstrip('/')}/{repository}"


def _refused(cause: Exception, repository: str, host: str, status: int | None) -> str:
    if "Invalid credentials" in str(
        getattr(getattr(cause, "response", None), "headers", {}).get("X-Error-Message", "")
    ):
        return f"{host} refused the token: it is wrong or no longer valid. Make a new one there and {_WITH_A_KEY}; for a public model, unset it."
    if status == 403:
        return (
            f"{host} does not let this token read {repository} (403). Give it the right to, or {_WITH_A_KEY}."
        )
    return f"{host} knows no model {repository}, or it is private. Check the name; for a private one {_WITH_A_KEY}."


def _status(error: Any) -> int | None:
    """Return the HTTP status that an error is about; None where there was no answer."""
    found = getattr(getattr(error, "response", None), "status_code", None)
    return found if isinstance(found, int) else None
