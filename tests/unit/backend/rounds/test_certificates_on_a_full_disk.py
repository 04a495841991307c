"""A certificate on a disk that takes nothing: no step is half done, and each is done once there is space."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy.exc import OperationalError

from everylabel.backend.rounds import certificates
from everylabel.backend.store.certificates import ACCEPTED, CERTIFIED, CHECKING
from everylabel.scripts.storage_errors import in_a_sentence
from tests.unit.backend.rounds.test_certificates import ERROR, answer, truth, under_way  # noqa: F401


@contextmanager
def no_byte_more() -> Iterator[None]:
    """Let every write to a file of this process fail, as on a full disk; one to a socket goes through."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def refused() -> Iterator[None]:
    """Expect an error that every command tells in a sentence."""
    with pytest.raises((OSError, OperationalError)) as raised, no_byte_more():
        yield
    assert "run the command again" in (in_a_sentence(raised.value) or "")


def written(stand_in):
    """The tasks that have an annotation of everylabel's, as often as they have one."""
    return [
        task["id"]
        for task in stand_in.tasks.values()
        for a in task["annotations"]
        if "meta" in str(a["result"])
    ]


def test_no_step_is_half_done(stand_in, services, truth):  # noqa: F811
    folder = services.files(1).folder

    def files():
        return {path for path in folder.rglob("*") if path.is_file()}

    before = files()
    with refused():
        certificates.begin(services, 1, ERROR)
    assert services.store.certificates(1) == []
    assert files() == before
    record, _ = certificates.begin(services, 1, ERROR)
    assert record.number == 1
    services.loop.catch_up(1, force=True)
    while not (check := under_way(services)).plan.certified:
        answer(stand_in, services, check.open_tasks, lambda machine: machine)

    with refused():
        certificates.conclude(services, 1, check)
    assert services.store.certificate_under_way(1).state == CHECKING
    record = certificates.conclude(services, 1, check)
    assert record.state == CERTIFIED

    with no_byte_more():  # it writes to Label Studio alone
        certificates.accept(services, 1, record)
    assert services.store.certificate_under_way(1).state == CERTIFIED
    certificates.accept(services, 1, record)
    services.loop.catch_up(1, compare=True)

    with refused():
        certificates.finish(services, 1, record)
    assert services.store.certificate_under_way(1).state == CERTIFIED
    assert services.store.certificates(1)[-1].result.get("accepted") is None
    record = certificates.finish(services, 1, record)
    assert record.state == ACCEPTED
    made = written(stand_in)
    assert len(made) == len({*made}) == record.result["accepted"] > 0
