"""The versions of Label Studio that everylabel is tested with: named here, and nowhere else."""

from __future__ import annotations

import re
from typing import Final

TESTED: Final = ("1.20.0", "1.22.0", "1.23.2")
"""Oldest first. `make test-label-studio` runs the tests against any; docs/label-studio-versions.md has the results."""

OLDEST: Final = TESTED[0]
NEWEST: Final = TESTED[-1]
"""What the demo and the tests install."""

_RELEASE = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


def tested_versions() -> str:
    """Return the tested versions as a sentence names them: `1.20.0, 1.22.0 and 1.23.2`."""
    return f"{', '.join(TESTED[:-1])} and {NEWEST}"


def warning_about(version: str) -> str | None:
    """Return why this version of Label Studio may behave differently, and what to do; None where it is covered.

    A version between the oldest and the newest tested one is covered.

    Args:
        version: what Label Studio says of itself, such as `1.23.2` or `1.24.0.dev3`.
    """
    found, oldest, newest = (_release(text) for text in (version, OLDEST, NEWEST))
    if found is None:
        return (
            f"This Label Studio calls its version {version!r}, which cannot be compared with those everylabel was tested "
            f"with ({tested_versions()}). If something does not work, try Label Studio {NEWEST}."
        )
    if oldest is not None and found < oldest:
        return (
            f"Label Studio {version} is older than those everylabel was tested with ({tested_versions()}). It may work. "
            f"If something does not, upgrade it: pip install --upgrade label-studio=={NEWEST}"
        )
    if newest is not None and found > newest:
        return (
            f"Label Studio {version} is newer than those everylabel was tested with ({tested_versions()}). It may work. "
            f"To find out, run the tests against it: make test-label-studio VERSIONS={version}. "
            f"If something does not, stay with {NEWEST}."
        )
    return None


def _release(version: str) -> tuple[int, int, int] | None:
    match = _RELEASE.match(version)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3] or 0))
