"""`make test-label-studio`: one line a version, and a failure wherever something failed or nothing was tested."""

import re
import threading
from pathlib import Path

import pytest

from everylabel.backend.label_studio import versions
from everylabel.scripts.local_label_studio.install import InstallError
from tests import version_matrix
from tests.measure.chaos import Asking
from tests.version_matrix import Outcome, read_report, with_rows

REPOSITORY = Path(__file__).resolve().parents[2]
REPORT = """<testsuites><testsuite>
  <testcase name="test_one"/><testcase name="test_two"/><testcase name="test_three"><skipped/></testcase>
  {more}
</testsuite></testsuites>"""


@pytest.fixture
def a_test(tmp_path, monkeypatch):
    """A test file that tells which Label Studio it was given, and versions that need no installing."""
    monkeypatch.setattr(version_matrix, "install", lambda directory, version: directory / "label-studio")
    path = tmp_path / "test_given.py"
    path.write_text(
        "import os\n"
        "def test_the_version():\n"
        "    assert 'label-studio-1.20.0/' in os.environ['EVERYLABEL_TEST_LABEL_STUDIO']\n"
        "def test_the_database():\n"
        "    assert os.environ['EVERYLABEL_TEST_LABEL_STUDIO_DATABASE'] == 'postgresql'\n"
    )
    return str(path)


@pytest.mark.extended
def test_each_version_runs_on_each_database_and_says_in_one_line_what_passed(a_test, capfd):
    given = ["1.20.0", "1.23.2", "--databases", "postgresql", "sqlite", "--tests", a_test]
    assert version_matrix.main(given) == 1
    last = re.sub(r"in \d+ s", "in n s", "\n".join(capfd.readouterr().out.splitlines()[-4:])).splitlines()
    assert last == [
        "Label Studio 1.20.0 on postgresql: 2 passed, 0 skipped, 0 failed in n s",
        "Label Studio 1.20.0 on sqlite: 1 passed, 0 skipped, 1 failed in n s: test_the_database",
        "Label Studio 1.23.2 on postgresql: 1 passed, 0 skipped, 1 failed in n s: test_the_version",
        "Label Studio 1.23.2 on sqlite: 0 passed, 0 skipped, 2 failed in n s: test_the_version, test_the_database",
    ]
    assert version_matrix.main(["1.20.0", "--databases", "postgresql", "--tests", a_test]) == 0


def test_a_version_that_cannot_be_installed_is_one_line_and_the_others_are_run(a_test, monkeypatch, capfd):
    def install(directory, version):
        if version == "0.0.1":
            raise InstallError("no such version\nand so on")
        return directory / "label-studio"

    monkeypatch.setattr(version_matrix, "install", install)
    given = ["0.0.1", "1.20.0", "--databases", "postgresql", "--tests", a_test]
    assert version_matrix.main(given) == 1
    first, second = capfd.readouterr().out.splitlines()[-2:]
    assert first == "Label Studio 0.0.1 on postgresql: it could not be installed: no such version"
    assert second.startswith("Label Studio 1.20.0 on postgresql: 2 passed")


def test_a_report_is_counted_and_one_that_is_missing_is_a_failure(tmp_path):
    path = tmp_path / "report.xml"
    assert not read_report(path, "1.20.0", "sqlite", 1.0).is_well
    path.write_text(REPORT.format(more=""))
    found = read_report(path, "1.20.0", "sqlite", 1.0)
    assert (found.passed, found.skipped, found.failed, found.is_well) == (2, 1, (), True)
    path.write_text(REPORT.format(more='<testcase name="test_four"><error/></testcase>'))
    assert read_report(path, "1.20.0", "sqlite", 1.0).failed == ("test_four",)
    assert not Outcome("1.20.0", "sqlite", skipped=9).is_well, "all skipped: nothing was tested"


def test_the_rows_of_the_page_are_replaced_one_by_one_and_in_order():
    page = "| version |\n|---|---|---|---|---|---|\n\nText | with a line.\n"
    page = with_rows(
        page, [Outcome("1.23.2", "sqlite", passed=5), Outcome("1.9.0", "sqlite", passed=4)], "2026-01-01"
    )
    page = with_rows(page, [Outcome("1.23.2", "sqlite", passed=6, failed=("test_a",))], "2026-01-08")
    assert page == (
        "| version |\n|---|---|---|---|---|---|\n"
        "| 1.9.0 | sqlite | 4 | 0 | none | 2026-01-01 |\n"
        "| 1.23.2 | sqlite | 6 | 0 | `test_a` | 2026-01-08 |\n"
        "\nText | with a line.\n"
    )


def test_what_is_deployed_and_documented_are_the_tested_versions():
    newest = versions.NEWEST
    compose = (REPOSITORY / "docker-compose.yml").read_text()
    assert re.search(rf"image: .*/label-studio:{re.escape(newest)}\b", compose)
    assert f"label-studio=={newest}" in (REPOSITORY / "docs" / "tutorial.md").read_text()
    page = version_matrix.PAGE.read_text()
    assert [version for version in versions.TESTED if version not in page] == []
    assert {match[1] for match in version_matrix.ROW.finditer(page)} <= {*versions.TESTED}


def test_annotators_of_the_chaos_test_ask_in_the_same_instant_only_where_that_is_wanted():
    for together, expected in ((True, 3), (False, 1)):
        asking, lock, inside, most = Asking(3, together=together), threading.Lock(), [], []
        gate = threading.Barrier(3)

        def ask(asking=asking, lock=lock, inside=inside, most=most, gate=gate, together=together):
            with asking.turn():
                with lock:
                    inside.append(1)
                    most.append(len(inside))
                if together:
                    gate.wait(10)  # breaks unless all are inside at once
                with lock:
                    inside.pop()

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not gate.broken
        assert max(most) == expected
