"""The connection to Label Studio: its token, its retries and its errors.

`label-studio-sdk` handles tokens: a personal access token is a refresh token that has to be exchanged. Requests are
plain JSON, because a pool of 100,000 tasks has no use for 100,000 validated models.
"""

from __future__ import annotations

import threading
import time
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx

from everylabel.backend.http_transport import prompt_transport
from everylabel.backend.label_studio.errors import (
    LabelStudioError,
    TokenRefusedError,
    failure,
    not_json,
    refused,
    unreachable,
)
from everylabel.backend.ssl_context import ssl_context

if TYPE_CHECKING:
    from label_studio_sdk.tokens.client_ext import TokensClientExt

RETRIES = 3
TOLD_WITHIN_SECONDS = 3.0
"""How far a server's `Date`, in whole seconds and some time on its way, may be from the time."""


class Connection:
    """A connection to a Label Studio server with one user's token. Safe to share between threads.

    Args:
        url: where Label Studio answers.
        token: a personal access token or a legacy token.
        timeout: seconds.
        transport: stands in for the network in tests.
    """

    def __init__(
        self, url: str, token: str, *, timeout: float = 60.0, transport: httpx.BaseTransport | None = None
    ):
        self.url = url.rstrip("/")
        self._token = token
        self.calls = self.failures = 0
        """Requests sent, and those that were refused or not answered."""
        self._tokens: TokensClientExt | None = None
        self._lock = threading.Lock()
        self.clock_lead = 0.0
        """Seconds by which this machine's clock is ahead of Label Studio's."""
        self._http = httpx.Client(
            base_url=self.url,
            timeout=timeout,
            transport=transport or prompt_transport(),
            follow_redirects=False,
            verify=ssl_context(),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def authorization(self) -> str:
        """Return the `Authorization` header, with a personal access token exchanged and refreshed.

        Raises:
            TokenRefusedError: there is no token, or it has expired.
        """
        if not self._token:
            raise TokenRefusedError(
                "There is no token for Label Studio. Create a personal access token under Account & Settings and "
                "set LABEL_STUDIO_API_KEY."
            )
        from label_studio_sdk.core.api_error import ApiError  # noqa: PLC0415 - takes long to load
        from label_studio_sdk.tokens.client_ext import TokensClientExt  # noqa: PLC0415 - takes long to load

        with self._lock:
            try:
                if self._tokens is None:
                    # What it takes for an SDK client is asked for nothing but the httpx client inside.
                    client = SimpleNamespace(httpx_client=SimpleNamespace(httpx_client=self._http))
                    self._tokens = TokensClientExt(f"{self.url}/", self._token, client)
                key = self._tokens.api_key
            except ApiError as error:
                if error.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                    raise refused(error.status_code) from error
                raise LabelStudioError(
                    f"Label Studio did not exchange the personal access token ({error.status_code}). Is "
                    f"{self.url} the address of Label Studio itself?"
                ) from error
            except ValueError as error:
                raise not_json(self.url, "POST", "/api/token/refresh/") from error
            except httpx.HTTPError as error:
                raise unreachable(self.url, error) from error
        return f"Token {key}" if key == self._token else f"Bearer {key}"

    def request_object(self, method: str, path: str, *needed: str, **options: Any) -> dict[str, Any]:
        """Send a request, and return the JSON object it answers, with at least the `needed` keys.

        Raises:
            LabelStudioError: it is refused, not answered, or answered with something else.
        """
        body = self._body(method, path, **options)
        if not isinstance(body, dict) or not body.keys() >= set(needed):
            raise not_json(self.url, method, path)
        return body

    def request_list(self, method: str, path: str, **options: Any) -> list[dict[str, Any]]:
        """Send a request, and return the JSON list it answers.

        Raises:
            LabelStudioError: it is refused, not answered, or answered with something else.
        """
        body = self._body(method, path, **options)
        if not isinstance(body, list):
            raise not_json(self.url, method, path)
        return body

    def _body(self, method: str, path: str, **options: Any) -> Any:
        return self.decode(self.request(method, path, **options), method, path)

    def decode(self, response: httpx.Response, method: str, path: str) -> Any:
        """Decode the JSON of an answer to this request.

        Raises:
            LabelStudioError: it is not JSON.
        """
        try:
            return response.json()
        except ValueError as error:
            raise not_json(self.url, method, path) from error

    def request(self, method: str, path: str, *, missing_ok: bool = False, **options: Any) -> httpx.Response:
        """Send a request, and again where no connection was made.

        Args:
            method: of HTTP.
            path: below the server's address.
            missing_ok: return an answer of 404 instead of raising.
            options: as `httpx.Client.request` takes them.

        Raises:
            LabelStudioError: it is refused, or not answered.
        """
        for attempt in range(1, RETRIES + 1):
            self.calls += 1
            try:
                response = self._http.request(
                    method, path, headers={"Authorization": self.authorization()}, **options
                )
            except httpx.ConnectError as error:  # nothing was sent: trying again cannot do it twice
                self.failures += 1
                if attempt == RETRIES:
                    raise unreachable(self.url, error) from error
                time.sleep(0.2 * attempt)
                continue
            except httpx.HTTPError as error:
                self.failures += 1
                raise unreachable(self.url, error) from error
            self.clock_lead = _clock_lead(response)
            if response.is_success or (missing_ok and response.status_code == httpx.codes.NOT_FOUND):
                return response
            self.failures += 1
            raise failure(self.url, response, method, path)
        raise AssertionError("unreachable: the last attempt returns or raises")


def _clock_lead(response: httpx.Response) -> float:
    """Return by how many seconds our clock is ahead of the server's; 0 if its answer does not tell the time."""
    try:
        lead = time.time() - parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return 0.0
    return lead if abs(lead) > TOLD_WITHIN_SECONDS else 0.0
