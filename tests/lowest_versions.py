"""Write what `make test-lowest` installs: every range of pyproject.toml at its lower end.

Usage: ``python -m tests.lowest_versions FOLDER``, from an environment that holds the test tools. The folder gets a
``requirements.txt`` and its ``constraints.txt``.

torch keeps the version of constraints.txt: an older one would bring gigabytes of its own CUDA libraries. The test tools
keep theirs too, for they are no part of what a customer installs. Everything else is what pip finds for them today.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parent.parent

EXTRAS = ("hf", "text", "lite2", "solar-cells", "postgresql", "redis", "parquet", "simulate")
"""What tests that start no server can use; Ray runs a cluster."""

TOOLS = (
    "pytest",
    "pytest-timeout",
    "pytest-random-order",
    "pytest-xdist",
    "hypothesis",
    "schemathesis",
    "pyyaml",
    "flask-cors",
    "mypy",
)
"""The test tools that those tests need."""

AS_TESTED = ("torch", *TOOLS)


def requirements() -> list[str]:
    """Return what pyproject.toml asks for, with :data:`EXTRAS`."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return project["dependencies"] + [requirement for extra in EXTRAS for requirement in extras[extra]]


def lower_bounds(requirements: Iterable[str]) -> dict[str, str]:
    """Return the lower bound of each requirement, by canonical name.

    Raises:
        ValueError: If a requirement names no lower bound.
    """
    bounds = {}
    for requirement in map(Requirement, requirements):
        lowest = [part.version for part in requirement.specifier if part.operator in (">=", "==", "~=")]
        if len(lowest) != 1:
            raise ValueError(
                f"{requirement} in pyproject.toml needs a lower bound, as in {requirement.name}>=1.0"
            )
        bounds[canonicalize_name(requirement.name)] = lowest[0]
    return bounds


def tested_versions(constraints: str) -> dict[str, str]:
    """Return the lines of a constraints file by package, each with its marker."""
    return {
        line.split("==")[0].strip(): line for line in constraints.splitlines() if re.match(r"[a-z0-9]", line)
    }


def lowest_constraints() -> list[str]:
    """Return the lines of the constraints file."""
    tested = tested_versions((REPOSITORY / "constraints.txt").read_text(encoding="utf-8"))
    bounds = lower_bounds(requirements())
    lowest = [f"{name}=={bound}" for name, bound in bounds.items() if name not in AS_TESTED]
    return sorted(lowest + [tested[name] for name in AS_TESTED])


def main(folder: Path) -> None:
    """Write both files into ``folder``."""
    everylabel = f"-e .[{','.join(EXTRAS)}]"
    for name, lines in (
        ("constraints.txt", lowest_constraints()),
        ("requirements.txt", [everylabel, *TOOLS]),
    ):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
