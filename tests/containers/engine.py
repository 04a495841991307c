"""A podman of the tests' own: its storage, networks and volumes lie in one folder, so that nobody's images are touched.

It is told, in configuration files of its own, how to run where little is allowed: without systemd, and within the
limits on open files and processes that it was started with.
"""

import contextlib
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.everylabel_process import wait_until

#: What podman is run with, beside the Debian package that brings it.
PROGRAMS = {"podman": "podman", "debootstrap": "debootstrap", "iptables": "iptables"}
PACKAGES = "podman runc netavark aardvark-dns iptables debootstrap"
HEALTH_CHECK_SECONDS = 10.0


def require_engine() -> None:
    """Skip the test in one line where no engine is installed, or fail it where CI=true."""
    why = ""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        why = f"{', '.join(lacking)} missing: sudo apt-get install -y --no-install-recommends {PACKAGES}"
    elif _runtime() is None:
        why = "podman has no runtime: sudo apt-get install -y --no-install-recommends runc"
    elif os.geteuid() != 0:
        why = "containers on a network of their own need root: sudo make containers"
    if why and os.environ.get("CI") == "true":
        pytest.fail(why, pytrace=False)
    if why:
        pytest.skip(why)


def _runtime() -> str | None:
    return next((name for name in ("runc", "crun") if shutil.which(name)), None)


class Podman:
    """The engine, on a storage of its own.

    Args:
        storage: the folder for images, kept from one run to the next.
    """

    def __init__(self, storage: Path) -> None:
        storage.mkdir(parents=True, exist_ok=True)
        self._lock = (storage / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.fail(f"Another run of these tests uses {storage}: wait for it.", pytrace=False)
        # Short, because the sockets that lie in it may have 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="everylabel-podman-"))
        self._service: subprocess.Popen[bytes] | None = None
        for driver in ("overlay", "vfs"):  # overlay is refused on some file systems
            self._configure(storage / driver, driver)
            done = self.try_run("info", "--format", "json")
            if done.returncode == 0:
                break
        else:
            pytest.fail(f"podman does not start:\n{done.stderr}", pytrace=False)
        # What a run that was killed has left in the storage.
        for container in self.run("ps", "--all", "--external", "--quiet").split():
            self.try_run("rm", "--force", container)

    def _configure(self, storage: Path, driver: str) -> None:
        here = self.folder
        (here / "storage.conf").write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{storage}"\nrunroot = "{here / "run"}"\n'
        )
        limits = [
            f'"{name}={_at_most(limit, wanted)}:{_at_most(limit, wanted)}"'
            for name, limit, wanted in (
                ("nofile", resource.RLIMIT_NOFILE, 20_000),
                ("nproc", resource.RLIMIT_NPROC, 4_096),
            )
        ]
        (here / "containers.conf").write_text(
            f"""
[containers]
default_ulimits = [{", ".join(limits)}]
log_driver = "k8s-file"
[engine]
runtime = "{_runtime()}"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{here / "tmp"}"
static_dir = "{here / "libpod"}"
volume_path = "{here / "volumes"}"
[network]
network_backend = "netavark"
network_config_dir = "{here / "networks"}"
"""
        )
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ},
            "CONTAINERS_CONF": str(here / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(here / "storage.conf"),
        }

    def try_run(self, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run podman, whatever comes of it."""
        return subprocess.run(
            ["podman", "--log-level", "error", *arguments],
            env=self.environment, text=True, check=False,
            **{"capture_output": True, "stdin": subprocess.DEVNULL, **options},
        )  # fmt: skip

    def run(self, *arguments: str | Path, **options: Any) -> str:
        """Run podman and return what it printed; the test fails with podman's words."""
        done = self.try_run(*arguments, **options)
        assert done.returncode == 0, f"podman {' '.join(map(str, arguments))}\n{done.stdout}\n{done.stderr}"
        return done.stdout or ""

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        (found,) = json.loads(self.run("container", "inspect", container))
        return dict(found)

    def pid(self, container: str) -> int:
        """The container's first process, as this machine numbers it."""
        return int(self.inspect(container)["State"]["Pid"])

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Answer Docker's API, which Docker Compose speaks; yields the address."""
        socket = self.folder / "docker.sock"
        stopping = threading.Event()
        with (self.folder / "service.log").open("wb") as log:
            service = subprocess.Popen(
                ["podman", "system", "service", "--time=0", f"unix://{socket}"],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        checks = threading.Thread(target=self._check_health, args=(stopping,), daemon=True)
        try:
            wait_until(socket.exists, f"podman's service has not started, see {self.folder}/service.log")
            if not Path("/run/systemd/system").exists():
                checks.start()
            yield f"unix://{socket}"
        finally:
            stopping.set()
            if checks.is_alive():
                checks.join()
            service.terminate()
            service.wait()

    def _check_health(self, stopping: threading.Event) -> None:
        # podman leaves the clock of a health check to a timer of systemd, which is not everywhere.
        while not stopping.wait(HEALTH_CHECK_SECONDS):
            for container in self.try_run("ps", "--quiet").stdout.split():
                self.try_run("healthcheck", "run", container)

    def close(self) -> None:
        """Remove every container, network and volume; the images stay."""
        self.try_run("rm", "--all", "--force", "--time", "0", "--volumes")
        self.try_run("network", "prune", "--force")
        self.try_run("volume", "prune", "--force")
        # A storage that is still mounted cannot be removed with the folder that says so.
        self.try_run("umount", "--all")
        subprocess.run(
            ["umount", "--recursive", "--quiet", self.folder / "run"], check=False, capture_output=True
        )
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def _at_most(limit: int, wanted: int) -> int:
    _, hard = resource.getrlimit(limit)
    return wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)


class Compose:
    """Docker Compose on the compose file as it is, by an engine that answers Docker's API.

    Args:
        file: the compose file.
        variables: what a person writes into `.env`.
        address: the engine's.
        folder: for that `.env`.
    """

    def __init__(self, file: Path, variables: Mapping[str, str], address: str, folder: Path) -> None:
        dotenv = folder / ".env"
        dotenv.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        dotenv.chmod(0o600)
        program = Path(sys.executable).with_name("docker-compose")
        self._command = [program, "--file", file, "--env-file", dotenv, "--progress", "plain"]
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DOCKER_HOST": address,
        }

    def try_run(self, *arguments: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run `docker compose`, whatever comes of it."""
        return subprocess.run(
            [*self._command, *arguments],
            env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=seconds,
        )  # fmt: skip

    def run(self, *arguments: str, seconds: float = 300) -> str:
        """Run `docker compose` and return what it printed; the test fails with its words."""
        done = self.try_run(*arguments, seconds=seconds)
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def exec(self, service: str, *command: str, seconds: float = 120) -> str:
        """Run a command in a service's container, as people do."""
        return self.run("exec", "-T", service, *command, seconds=seconds)

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.run("ps", "--quiet", "--all", service).strip()


def volumes_of(words: Sequence[Path]) -> list[str]:
    """The options that show a build these files and folders of this machine, under their own names."""
    return [f"--volume={path}:{path}:ro" for path in dict.fromkeys(words)]
