"""Write requirements.lock: what the image installs, each file of it by its hash.

Usage: ``python -m tests.locked_requirements``, from an environment that holds uv (``make lock``).

The versions are those of constraints.txt. Every file of a version may be installed, so that one list serves x86-64 and
ARM. torch is left out, with what only its CUDA build needs: which build a deployment takes, and from which index, is its
own choice, and the hashes of an index that we do not use are not ours to vouch for.
"""

import subprocess
import sys
import tempfile
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parent.parent
LOCK = REPOSITORY / "requirements.lock"
PYTHON = "3.11"
"""The image's."""
TORCH = "torch"
CUDA = ("nvidia-", "cuda-", "triton")
"""How the names begin of what torch asks for in its CUDA build alone."""
HEADER = """\
# What the image installs, each file by its hash; torch and its CUDA libraries come from where a deployment says.
# Made by `make lock` from pyproject.toml and constraints.txt.
"""


def asked() -> list[str]:
    """Return what pyproject.toml asks for, and what torch asks for in any of its builds."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *of_torch()]


def of_torch() -> list[str]:
    """Return what torch asks for in any of its builds."""
    found = [Requirement(one) for one in requires(TORCH) or ()]
    wanted = [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]
    return [f"{one.name}{one.specifier}" for one in wanted if not is_left_out(one.name)]


def is_left_out(name: str) -> bool:
    """Return whether a package is torch, or one that only its CUDA build needs."""
    return canonicalize_name(name) == TORCH or canonicalize_name(name).startswith(CUDA)


def locked(folder: Path) -> str:
    """Have uv resolve and return its list."""
    given, found = folder / "requirements.in", folder / "requirements.txt"
    given.write_text("\n".join(asked()), encoding="utf-8")
    command = ["uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"]
    command += ["--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28"]
    command += ["--constraint", str(REPOSITORY / "constraints.txt"), "--output-file", str(found)]
    subprocess.run([*command, str(given)], check=True)
    return found.read_text(encoding="utf-8")


def without_torch(lock: str) -> str:
    """Return the list without torch and its CUDA libraries; a package is a line and those indented below it."""
    kept, keep = [], True
    for line in lock.splitlines():
        if line and not line[0].isspace():
            keep = not is_left_out(line.partition("==")[0])
        if keep:
            kept.append(line)
    return "\n".join(kept) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        LOCK.write_text(HEADER + without_torch(locked(Path(scratch))), encoding="utf-8")
