"""How the backend logs: one line an event, to standard error, without anything private."""

from __future__ import annotations

import logging
import sys


def configure(level: str) -> None:
    """Log at `level` and above; libraries that log every request stay quiet."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    for name in ("httpx", "httpcore", "huey", "sqlalchemy.engine", "label_studio_sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)
