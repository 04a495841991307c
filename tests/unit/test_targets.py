"""Nothing falls between `make test` and `make test-extended`, and CI runs both."""

import re

from tests.conftest import ESSENTIAL, REPOSITORY


def test_what_make_test_leaves_out_is_run_by_ci():
    targets = re.findall(r'^(test[\w-]*):.*\n\t\$\(PYTEST\) -m "?(not extended|extended)"?', makefile(), re.M)
    assert dict(targets) == {"test": "not extended", "test-extended": "extended"}
    called = re.findall(r"^\.ci/clean-room make ([\w-]+)", (REPOSITORY / ".ci" / "run").read_text(), re.M)
    assert {"test", "test-extended", "test-lowest"} == {*called}


def test_the_files_that_are_named_essential_are_there():
    assert [name for name in ESSENTIAL if not (REPOSITORY / "tests" / name).is_file()] == []


def makefile():
    return (REPOSITORY / "Makefile").read_text()
