"""Run the tests that meet Label Studio against several versions of it, each in an environment of its own.

    make test-label-studio VERSIONS="1.20.0 1.23.2"
    make test-label-studio DATABASES="sqlite postgresql"

One line a version and database says what passed. With `--publish` these lines become rows of
docs/label-studio-versions.md.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from everylabel.backend.label_studio.versions import TESTED
from everylabel.scripts.local_label_studio.install import InstallError, environment_in, install
from tests.conftest import CACHE, REPOSITORY
from tests.label_studio_setups import DATABASES

#: What meets Label Studio: its API, and its pages in a browser. Our own page needs none.
TESTS = (
    "tests/label_studio",
    "tests/browser/test_label_stream.py",
    "tests/browser/test_review.py",
    "tests/browser/test_tabs.py",
)
PAGE = REPOSITORY / "docs" / "label-studio-versions.md"
ROW = re.compile(r"^\| (\d[^ |]*) \| (\w+) \| .*$", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What the tests said of one version on one database.

    `failed` names the tests that failed or could not be run; `why` is set where there were no tests at all.
    """

    version: str
    database: str
    passed: int = 0
    skipped: int = 0
    failed: tuple[str, ...] = ()
    seconds: float = 0.0
    why: str = ""

    @property
    def is_well(self) -> bool:
        """Whether something was tested and nothing failed."""
        return self.passed > 0 and not self.failed and not self.why

    def __str__(self) -> str:
        head = f"Label Studio {self.version} on {self.database}: "
        if self.why:
            return head + self.why
        names = f": {', '.join(self.failed)}" if self.failed else ""
        counts = f"{self.passed} passed, {self.skipped} skipped, {len(self.failed)} failed"
        return f"{head}{counts} in {self.seconds:.0f} s{names}"

    def row(self, day: str) -> str:
        """Return the row of the page."""
        said = self.why or ", ".join(f"`{name}`" for name in self.failed) or "none"
        return f"| {self.version} | {self.database} | {self.passed} | {self.skipped} | {said} | {day} |"


def read_report(path: Path, version: str, database: str, seconds: float) -> Outcome:
    """Read pytest's JUnit report; one that is missing or empty is a failure."""
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (FileNotFoundError, ElementTree.ParseError):
        return Outcome(version, database, seconds=seconds, why="the tests ended without a report")
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    return Outcome(
        version,
        database,
        passed=len(cases) - len(failed) - len(skipped),
        skipped=len(skipped),
        failed=tuple(dict.fromkeys(str(case.get("name")) for case in failed)),
        seconds=seconds,
    )


def run_tests(version: str, database: str, arguments: Sequence[str], jobs: str) -> Outcome:
    """Install a version if need be and run the tests against it on a database, so many files at a time."""
    try:
        executable = install(environment_in(CACHE, version), version)
    except InstallError as error:
        return Outcome(version, database, why=f"it could not be installed: {str(error).splitlines()[0]}")
    environment = {
        **os.environ,
        "EVERYLABEL_TEST_LABEL_STUDIO": str(executable),
        "EVERYLABEL_TEST_LABEL_STUDIO_DATABASE": database,
    }
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}"]
        command += ["--numprocesses", jobs, "--dist", "loadfile", *(arguments or TESTS)]
        subprocess.run(command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, check=False)
        return read_report(report, version, database, time.monotonic() - started)


def with_rows(page: str, outcomes: Sequence[Outcome], day: str) -> str:
    """Return the page with these outcomes in the place of what was known of the same version and database."""
    rows = {(match[1], match[2]): match[0] for match in ROW.finditer(page)}
    rows |= {(outcome.version, outcome.database): outcome.row(day) for outcome in outcomes}
    head, line, rest = page.partition("|---|---|---|---|---|---|\n")
    order = sorted(rows, key=lambda key: ([int(part) for part in re.findall(r"\d+", key[0])], key[1]))
    return head + line + "".join(f"{rows[key]}\n" for key in order) + "\n" + ROW.sub("", rest).lstrip("\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every version on every database; 1 if anything failed."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("versions", nargs="*", default=list(TESTED), help=f"default: {' '.join(TESTED)}")
    options.add_argument("--databases", nargs="+", choices=DATABASES, default=["sqlite"])
    options.add_argument("--tests", nargs="+", default=[], help=f"instead of {' '.join(TESTS)}")
    options.add_argument("--jobs", type=int, default=1, help="so many files at a time (default: 1)")
    options.add_argument("--publish", action="store_true", help=f"write the rows into {PAGE.name}")
    given = options.parse_args(arguments)
    outcomes = []
    for version in given.versions:
        for database in given.databases:
            outcomes.append(run_tests(version, database, given.tests, str(given.jobs)))
            print(outcomes[-1], flush=True)  # noqa: T201
    print("\n" + "\n".join(map(str, outcomes)))  # noqa: T201
    if given.publish:
        day = time.strftime("%Y-%m-%d")
        PAGE.write_text(with_rows(PAGE.read_text("utf-8"), outcomes, day), "utf-8")
    return 0 if all(outcome.is_well for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
