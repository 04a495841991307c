"""The images the compose file names, made from packages where no registry of images can be reached.

- `python:3.11-slim`: a Debian whose Python is 3.11, by debootstrap.
- `heartexlabs/label-studio:1.23.2`: its wheel on that.
- `everylabel:0.1.0`: ours, by its own Dockerfile on that.

Each carries a label that says what it was made from, and is made again only when that has changed. Packages come from
where this machine is set up to get them: apt's sources, and pip's settings.
"""

import configparser
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tests.conftest import REPOSITORY
from tests.containers.engine import Podman, volumes_of

DOCKERFILE = REPOSITORY / "backend" / "Dockerfile"
LABEL_STUDIO_DOCKERFILE = Path(__file__).with_name("label-studio.Dockerfile")
PYTHON_IMAGE = "docker.io/library/python:3.11-slim"
LABEL_STUDIO_IMAGE = "docker.io/heartexlabs/label-studio:1.23.2"
EVERYLABEL_IMAGE = "docker.io/library/everylabel:0.1.0"
MADE_FROM = "everylabel.made-from"

SUITE = "bookworm"  # the Debian whose Python is 3.11
PYTHON_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
#: What Debian's own slim images leave out as well.
NOT_SLIM = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    *(f"usr/share/{x}" for x in ("doc", "man", "locale", "info")),
)
#: Settings of pip that name where packages come from, or whom to trust.
PIP_SETTINGS = (
    "index-url",
    "extra-index-url",
    "find-links",
    "no-index",
    "cert",
    "trusted-host",
    "proxy",
    "timeout",
)


def make_images(podman: Podman) -> None:
    """Make what is missing or was made from something else."""
    base = _digest(SUITE, PYTHON_PACKAGES, *NOT_SLIM)
    if _missing(podman, PYTHON_IMAGE, base):
        _make_python_image(podman, base)
    with tempfile.TemporaryDirectory(prefix="everylabel-pip-") as folder:
        pip = _pip_settings(Path(folder))
        made_from = _digest(base, LABEL_STUDIO_DOCKERFILE.read_bytes())
        if _missing(podman, LABEL_STUDIO_IMAGE, made_from):
            _build(podman, LABEL_STUDIO_DOCKERFILE, LABEL_STUDIO_IMAGE, made_from, pip)
        made_from = _digest(base, *(path.read_bytes() for path in _sources()))
        if _missing(podman, EVERYLABEL_IMAGE, made_from):
            _build(podman, DOCKERFILE, EVERYLABEL_IMAGE, made_from, pip)


def _sources() -> Iterable[Path]:
    names = (
        "pyproject.toml",
        "constraints.txt",
        "requirements.lock",
        "README.md",
        "LICENSE",
        "backend",
        "model",
        "scripts",
    )
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *names],
        cwd=REPOSITORY, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return (path for name in sorted(tracked.split("\0")) if name and (path := REPOSITORY / name).is_file())


def _digest(*parts: str | bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        found.update(f"{len(data)} ".encode() + data)
    return found.hexdigest()


def _missing(podman: Podman, image: str, made_from: str) -> bool:
    done = podman.try_run("image", "inspect", "--format", f'{{{{index .Labels "{MADE_FROM}"}}}}', image)
    return done.returncode != 0 or done.stdout.strip() != made_from


def _make_python_image(podman: Podman, made_from: str) -> None:
    """Bootstrap a Debian and import it under the name of Docker's Python image."""
    folder = Path(tempfile.mkdtemp(prefix="everylabel-debian-"))
    folder.chmod(0o755)
    try:
        command = ["debootstrap", "--variant=minbase", f"--include={PYTHON_PACKAGES}", SUITE, str(folder)]
        done = subprocess.run([*command, *_debian_mirror()], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr}"
        for found in (folder / "usr/lib").glob("python3*/EXTERNALLY-MANAGED"):
            found.unlink()  # it is this image's own Python that pip installs for
        (folder / "usr/bin/python").symlink_to("python3")
        for name in NOT_SLIM:
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / "var/log").mkdir()
        archive = subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE)
        change = f"LABEL {MADE_FROM}={made_from}"
        podman.run("import", "--quiet", "--change", change, "-", PYTHON_IMAGE, stdin=archive.stdout)
        assert archive.wait() == 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _debian_mirror() -> list[str]:
    """The mirror this machine's own apt gets Debian's main section from, where it says so."""
    lines = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL) $(COMPONENT)", "Identifier: Packages"],
        capture_output=True, text=True, check=False,
    ).stdout.splitlines()  # fmt: skip
    fields = (line.split() for line in lines)
    return next(([uri] for uri, label, component in fields if (label, component) == ("Debian", "main")), [])


def _pip_settings(folder: Path) -> list[str]:
    """The options of a build in which pip gets packages from where this machine's pip does."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings: dict[str, str] = {}
    for line in listed.splitlines():  # what stands in the environment comes last, and wins
        key, value = line.split("=", 1)
        name = key.split(".")[-1]
        if name in PIP_SETTINGS:
            settings[name] = value[1:-1]
    config = configparser.RawConfigParser()
    config["global"] = settings
    with (folder / "pip.conf").open("w") as file:
        config.write(file)
    shown = _local_paths(settings)
    return [f"--volume={folder / 'pip.conf'}:/etc/pip.conf:ro", *volumes_of(shown)]


def _local_paths(settings: Mapping[str, str]) -> list[Path]:
    """The files and folders of this machine that settings of pip name."""
    found = []
    for name in ("index-url", "extra-index-url", "find-links", "cert"):
        for word in settings.get(name, "").split():
            path = Path(urlsplit(word).path if word.startswith("file:") else word)
            if name.endswith("index-url") and len(path.parts) > 2:
                path = path.parent  # an index on disk leads to files beside it
            if path.is_absolute() and path.exists():
                found.append(path)
    return found


def _build(podman: Podman, dockerfile: Path, image: str, made_from: str, options: list[str]) -> None:
    done = podman.try_run(
        *("build", "--pull=never", "--format=docker", "--isolation=chroot", "--network=host"),
        *("--file", dockerfile, "--tag", image, "--label", f"{MADE_FROM}={made_from}"),
        *options,
        REPOSITORY,
    )
    assert done.returncode == 0, f"{dockerfile}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
