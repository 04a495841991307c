"""Log one line an event, to standard error, without anything private."""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from everylabel.backend.auth import LOGIN, delivery_secret

if TYPE_CHECKING:
    from everylabel.backend.settings import Settings

QUIET = ("httpx", "httpcore", "sqlalchemy.engine", "label_studio_sdk")
"""Libraries that log every request."""
HIDDEN = "***"

_about: ContextVar[dict[str, int] | None] = ContextVar("about", default=None)
_PATTERNS = (
    (re.compile(r"(?<=://)[^/\s@'\"]+@"), f"{HIDDEN}@"),  # http://user:password@host
    (re.compile(r"(https?://[^\s?'\"]+|s3://[^\s?'\"]+)\?[^\s'\"]+"), rf"\1?{HIDDEN}"),  # a signed address
    (re.compile(r"(?i)\b(bearer|basic|token)\s+[A-Za-z0-9+/=._~-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+"), HIDDEN),  # a personal access token, or one made of it
)


@contextmanager
def about(**fields: int) -> Iterator[None]:
    """Add fields, such as the project and the round, to every line logged inside the `with` block."""
    before = _about.set({**(_about.get() or {}), **fields})
    try:
        yield
    finally:
        _about.reset(before)


def configure(settings: Settings) -> None:
    """Set up logging as the settings say; libraries that log every request stay quiet."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(settings))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class Lines(logging.Formatter):
    """A formatter of one line a record, as text or as JSON (`EVERYLABEL_LOG_FORMAT`), without secrets.

    The backend logs no secret on purpose, but an error of a library may quote an address or a header.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(fields)s: %(message)s")
        self._json = settings.log_format == "json"
        given = (settings.label_studio_api_key, settings.basic_auth_pass, settings.bearer_secret)
        plain = [secret.get_secret_value() for secret in given]
        if settings.has_auth:
            plain.append(delivery_secret(settings))
            plain.append(base64.b64encode(f"{LOGIN}:{delivery_secret(settings)}".encode()).decode())
        login = f"{settings.basic_auth_user}:{settings.basic_auth_pass.get_secret_value()}"
        plain.append(base64.b64encode(login.encode()).decode())
        # Longest first: one may be the beginning of another.
        self._secrets = sorted((secret for secret in plain if len(secret) >= 4), key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line, or several if the format is text and there is a traceback."""
        fields = _about.get() or {}
        if not self._json:
            record.fields = "".join(f" {name}={value}" for name, value in fields.items())
            return self._without_secrets(super().format(record))
        told: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname,
            "logger": record.name,
            **fields,
            "message": self._without_secrets(record.getMessage()),
        }
        if record.exc_info:
            told["traceback"] = self._without_secrets(self.formatException(record.exc_info))
        return json.dumps(told, ensure_ascii=False)

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text
