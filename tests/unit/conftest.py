"""The backend's fixtures."""

import logging
from collections.abc import Iterator

import pytest

from tests.backend_fixtures import (  # noqa: F401
    digit_crops,
    encoder,
    make_services,
    project,
    send,
    services,
    stand_in,
    teach,
    trainer,
    wait,
)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Take back how a command run in this process logs: its stream is closed, and later tests would log to it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
