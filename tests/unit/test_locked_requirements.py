"""requirements.lock holds all that the image installs but torch, in the versions that are tested, each by its hash."""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import requires, version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.locked_requirements import LOCK, REPOSITORY, asked, is_left_out

IMAGE = {"python_version": "3.11", "python_full_version": "3.11.9", "sys_platform": "linux", "extra": ""}
PINNED = re.compile(r"^(\S+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})+)$")


def lines(path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return (" ".join(line.split()) for line in text.splitlines() if line.strip() and line[0] != "#")


@pytest.fixture(scope="module")
def versions() -> dict[str, str]:
    found = [PINNED.match(line) for line in lines(LOCK)]
    assert all(found), "a package without a version or without a hash"
    return {canonicalize_name(one[1]): one[2] for one in found if one is not None}


@pytest.fixture
def tested_versions(versions) -> None:
    """Skip where lower versions than those of the lock are installed: they ask for other packages."""
    direct = {canonicalize_name(Requirement(line).name) for line in asked()} & versions.keys()
    lower = [name for name in sorted(direct) if Version(version(name)) < Version(versions[name])]
    if lower:
        pytest.skip(f"lower versions than those of the lock are installed: {', '.join(lower)}")


def test_no_index_is_named():
    text = LOCK.read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


def test_the_versions_are_those_that_are_tested(versions):
    pinned = {}
    for line in lines(REPOSITORY / "constraints.txt"):
        one = Requirement(line)
        if one.marker is None or one.marker.evaluate(IMAGE):
            pinned[canonicalize_name(one.name)] = str(one.specifier).removeprefix("==")
    differing = {name: version for name, version in versions.items() if pinned.get(name, version) != version}
    assert not differing, "run `make lock`"
    assert len(versions.keys() & pinned.keys()) > 80


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="what a package asks for depends on the Python")
@pytest.mark.usefixtures("tested_versions")
def test_it_holds_what_is_asked_for_and_all_that_this_asks_for_in_turn(versions):
    needed: set[tuple[str, str]] = set()
    waiting = [Requirement(line) for line in asked()]
    while waiting:
        one = waiting.pop()
        for extra in ("", *one.extras):
            key = (canonicalize_name(one.name), extra)
            if key in needed or is_left_out(one.name):
                continue
            needed.add(key)
            below = [Requirement(line) for line in requires(one.name) or ()]
            waiting += [r for r in below if r.marker is None or r.marker.evaluate({**IMAGE, "extra": extra})]
    assert {name for name, _ in needed} == versions.keys(), "run `make lock`"
