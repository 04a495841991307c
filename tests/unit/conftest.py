"""The backend's fixtures."""

import logging
import os
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


@pytest.fixture(autouse=True)
def _processor_as_before() -> Iterator[None]:
    """Fail a test that leaves this process a lower priority or fewer cores: every later one, and its servers, would be slow."""
    before = _processor()
    yield
    assert _processor() == before


def _processor() -> tuple[int, set[int]]:
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    return os.getpriority(os.PRIO_PROCESS, 0), cores
