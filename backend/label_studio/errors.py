"""Errors of Label Studio: each says why, and what helps."""

from __future__ import annotations

from urllib.parse import urljoin

import httpx

_NOBODY_THERE = {
    httpx.codes.BAD_GATEWAY,
    httpx.codes.SERVICE_UNAVAILABLE,
    httpx.codes.GATEWAY_TIMEOUT,
}


class LabelStudioError(RuntimeError):
    """Label Studio did not do what it was asked; the message says why and what helps."""


class LabelStudioUnreachableError(LabelStudioError):
    """Nothing answers at Label Studio's address, or not in time."""


class TokenRefusedError(LabelStudioError):
    """Label Studio does not accept the token."""


class ProjectNotFoundError(LabelStudioError):
    """There is no such project, or the token's owner may not see it."""


class RequestRefusedError(LabelStudioError):
    """Label Studio refuses this request, and would refuse it again.

    Args:
        message: Why, and what helps.
        status: The status of its answer, 400 to 499.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class BackendUnreachableError(LabelStudioError):
    """Label Studio finds nobody at the address of an ML backend."""


def failure(url: str, response: httpx.Response, method: str, path: str) -> LabelStudioError:
    """Return the error for an answer that is not a success."""
    status = response.status_code
    detail = _detail(response)
    if (about_backend := _about_backend(detail)) is not None:
        return about_backend
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return refused(status)
    if response.is_redirect:
        target = urljoin(url, response.headers.get("location", ""))
        return LabelStudioError(
            f"{url} redirects {path} to {target}. Set LABEL_STUDIO_URL to the address it ends at."
        )
    if status == httpx.codes.NOT_FOUND and "/api/projects/" in path:
        return ProjectNotFoundError(
            f"Label Studio has nothing at {path} (404): the project was deleted, or belongs to an organization "
            "the token's owner is not in. Check the number in the project's address, /projects/<number>/."
        )
    if status in _NOBODY_THERE:
        return LabelStudioUnreachableError(
            f"Nothing answers behind {url}, {method} {path} ({status}): {detail}"
        )
    message = f"Label Studio refused {method} {path} ({status}): {detail}"
    return RequestRefusedError(message, status) if response.is_client_error else LabelStudioError(message)


def not_json(url: str, method: str, path: str) -> LabelStudioError:
    """Return the error for an answer that is not Label Studio's."""
    return LabelStudioError(
        f"{url} answered {method} {path} with something that is not Label Studio's JSON. Is "
        "LABEL_STUDIO_URL the address of Label Studio itself?"
    )


def refused(status: int | None) -> TokenRefusedError:
    """Return the error for a token that is not accepted."""
    return TokenRefusedError(
        f"Label Studio refused the token ({status}). Create a personal access token under Account & Settings and "
        "set LABEL_STUDIO_API_KEY. (A legacy token works only where the organization has legacy tokens on.)"
    )


def unreachable(url: str, error: Exception) -> LabelStudioUnreachableError:
    """Return the error for a request without an answer."""
    what = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "does not answer"
    return LabelStudioUnreachableError(
        f"Label Studio {what} at {url} ({type(error).__name__}). Is it running, and is LABEL_STUDIO_URL "
        "right as seen from this machine? (In a container, localhost is the container.)"
    )


def _about_backend(detail: str) -> LabelStudioError | None:
    """Return why Label Studio cannot use an ML backend; None if the message is about something else."""
    if "health check failed" in detail:
        return BackendUnreachableError(
            "Label Studio finds no backend there. Start it with `everylabel serve`, and set EVERYLABEL_PUBLIC_URL to "
            f"its address as seen from Label Studio's own machine. Label Studio says: {detail}"
        )
    if "reserved network" in detail:
        return LabelStudioError(
            f"Label Studio refuses the backend's address: {detail} Since 1.2x it blocks private and loopback addresses. "
            "Start Label Studio with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false, or keep the protection and "
            "carve out the backend's subnet: USE_DEFAULT_BANNED_SUBNETS=false with USER_ADDITIONAL_BANNED_SUBNETS=…"
        )
    return None


def _detail(response: httpx.Response) -> str:
    """Return Label Studio's own explanation in one short line."""
    try:
        body = response.json()
    except ValueError:
        text = response.text.strip()
        # A proxy's page says in HTML what its status says in two words.
        return response.reason_phrase if text.startswith("<") else text[:200] or response.reason_phrase
    if isinstance(body, dict):
        parts = [str(body["detail"])] if body.get("detail") else []
        errors = body.get("validation_errors")
        if isinstance(errors, dict):
            parts += [
                f"{field}: {' '.join(map(str, why if isinstance(why, list) else [why]))}"
                for field, why in errors.items()
            ]
        elif errors:
            parts.append(str(errors))
        if parts:
            return "; ".join(parts)[:500]
    return str(body)[:500]
