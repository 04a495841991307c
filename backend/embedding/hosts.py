"""Remember the hosts that do not answer, so that a pass does not wait for each of their crops."""

from __future__ import annotations

from threading import Lock
from urllib.parse import urlsplit

from everylabel.backend.label_studio.crop_errors import ImageError

GIVEN_UP_AFTER = 64
"""When a host has failed to deliver this many crops in a row, it is skipped for the rest of the pass."""


class Hosts:
    """The hosts that do not answer, for one pass or for several that share them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failures: dict[str, int] = {}
        self.failure: ImageError | None = None

    def is_given_up(self, host: str) -> bool:
        """Return whether a host has been given up."""
        return self._failures.get(host, 0) >= GIVEN_UP_AFTER

    def answered(self, host: str, outcome: object) -> None:
        """Note the outcome of reading a crop from a host."""
        with self._lock:
            if not isinstance(outcome, ImageError) or not outcome.retry:
                self._failures.pop(host, None)
                return
            self._failures[host] = self._failures.get(host, 0) + 1
            if self._failures[host] == GIVEN_UP_AFTER:
                self.failure = outcome


def host_of(address: str) -> str:
    """Return the host that an address belongs to; the name without a host stands for Label Studio."""
    if address[:5].lower() == "data:":
        return "data:"
    try:
        parts = urlsplit(address)
    except ValueError:
        return address[:200]
    return f"{parts.scheme}//{parts.netloc}"
