"""A Label Studio server on this machine: installed, started on loopback, and stopped with all its processes.

The demo and the tests run against it. It is set up for one machine: Label Studio's protection against
requests to private addresses is off, because the backend it must reach *is* on loopback. Do not put it on a
network.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from everylabel.backend.label_studio.versions import NEWEST
from everylabel.scripts.local_label_studio.credentials import Credentials, ServerError
from everylabel.scripts.local_label_studio.install import InstallError, environment_in, install
from everylabel.scripts.local_label_studio.process_group import end_group, interrupted_later

__all__ = ["Credentials", "InstallError", "LabelStudioServer", "ServerError", "install"]

#: What a server started here inherits. An allow-list: Label Studio reads bare names such as DEBUG, HOST,
#: PASSWORD and DATABASE_NAME, and a PYTHONPATH would put our packages in front of the ones it pins.
INHERITED: Final = (
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
)  # fmt: skip

#: From a cold start on two cores Label Studio answers in about half a minute, migrations included.
USUAL_START_SECONDS: Final = 30.0


class LabelStudioServer:
    """One Label Studio process on one data directory, as a context manager.

    At most one server runs on a data directory: the process itself holds a lock.

    Args:
        data_dir: keeps its database, uploads, log and credentials, so that a restart finds everything again.
        environment_dir: where to install Label Studio on the first `start`, if there is no `executable`.
        executable: an installed `label-studio`: the program, or the folder of the environment that has it. A relative path
            counts from where we run, not from `data_dir`, where the server runs.
        version: the version to install.
        port: None takes a free one.
        host: the address to listen on.
        start_timeout: seconds.
        extra_environment: variables that are added to the child's.
        console: where progress is shown; standard error by default.

    Raises:
        ValueError: neither `environment_dir` nor `executable` is given.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        environment_dir: Path | None = None,
        executable: Path | None = None,
        version: str = NEWEST,
        port: int | None = None,
        host: str = "127.0.0.1",
        start_timeout: float = 240.0,
        extra_environment: Mapping[str, str] | None = None,
        console: Console | None = None,
    ) -> None:
        if environment_dir is None and executable is None:
            raise ValueError(
                "Name where Label Studio is (executable) or where to install it (environment_dir)."
            )
        self.data_dir = data_dir.absolute()
        self.environment_dir = environment_dir
        self.executable = executable
        self.version = version
        self.host = host
        self.port = port
        self.start_timeout = start_timeout
        self.extra_environment = dict(extra_environment or {})
        self.console = console or Console(stderr=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    @property
    def url(self) -> str:
        """The address, without a slash at its end; raises `ServerError` before a port is known."""
        if self.port is None:
            raise ServerError("Label Studio has no address yet: start() picks its port.")
        return f"http://{self.host}:{self.port}"

    @property
    def credentials(self) -> Credentials:
        """The user, password and legacy token of this data directory."""
        return Credentials.of(self.data_dir)

    @property
    def log_path(self) -> Path:
        """The file that the server's output goes to."""
        return self.data_dir / "label-studio.log"

    @property
    def pid(self) -> int | None:
        """The process id while the server runs, otherwise None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> LabelStudioServer:
        """Install if needed, start, and return once the server answers.

        Raises:
            ServerError: the server does not start; the message holds the end of its log.
            InstallError: Label Studio cannot be installed.
        """
        if self.pid is not None:
            return self
        executable = self._find_executable()
        credentials = self.credentials
        self._take_lock()
        try:
            self.port = _bindable_port(self.host, self.port)
            self._spawn(executable, credentials)
            self._wait_until_it_answers(credentials)
        except BaseException:  # Ctrl-C included: whatever ends the wait, no process may stay behind
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the process group that `start` started, nothing else; calling it again does nothing."""
        process, self._process = self._process, None
        if process is not None:
            atexit.unregister(self.stop)
            end_group(process)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def restart(self) -> LabelStudioServer:
        """Stop and start again on the same port and data."""
        self.stop()
        return self.start()

    def log_tail(self, lines: int = 15) -> str:
        """Return the last `lines` of the log."""
        if not self.log_path.exists():
            return "(the log is empty)"
        with self.log_path.open("rb") as file:
            file.seek(max(0, self.log_path.stat().st_size - 65536))
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"

    def environment(self, inherited: Mapping[str, str], credentials: Credentials) -> dict[str, str]:
        """Return the child's whole environment: a few inherited names and Label Studio's settings."""
        chosen = {name: inherited[name] for name in INHERITED if name in inherited}
        return {
            **chosen,
            "PYTHONUNBUFFERED": "1",
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.data_dir),
            # Told to a backend in /setup as `hostname`; without it Label Studio would say localhost:8080.
            "LABEL_STUDIO_HOST": self.url,
            "LABEL_STUDIO_USERNAME": credentials.username,
            "LABEL_STUDIO_PASSWORD": credentials.password,
            "LABEL_STUDIO_USER_TOKEN": credentials.token,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            # Both: with only the first one a backend connects, but its webhook is silently not created.
            "ML_BLOCK_LOCAL_IP": "false",
            "SSRF_PROTECTION_ENABLED": "false",
            # No call leaves the machine.
            "COLLECT_ANALYTICS": "0",
            "LATEST_VERSION_CHECK": "0",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            **self.extra_environment,
        }

    def __enter__(self) -> LabelStudioServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _find_executable(self) -> Path:
        if self.executable is not None:
            return _program(self.executable)
        if self.environment_dir is None:
            raise ServerError("There is neither an executable nor a directory to install Label Studio into.")
        return install(self.environment_dir, self.version, console=self.console)

    def _take_lock(self) -> None:
        """Lock the data directory; the child inherits the lock, so that an orphan still holds it."""
        path = self.data_dir / "running.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise ServerError(
                f"A Label Studio is already running on {self.data_dir} (process {holder}). "
                f"Stop it first (kill {holder}), or use another directory."
            ) from None
        self._lock = lock

    def _spawn(self, executable: Path, credentials: Credentials) -> None:
        command = [
            str(executable),
            "start",
            "--no-browser",
            "--internal-host",
            self.host,
            "--port",
            str(self.port),
        ]
        lock = self._lock
        if lock is None:
            raise ServerError("The data directory is not locked.")
        with self.log_path.open("ab") as log, interrupted_later():
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} starting on {self.url}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                command,
                cwd=self.data_dir,
                env=self.environment(os.environ, credentials),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: a Ctrl-C in our terminal reaches us, and we end it in order.
                start_new_session=True,
                pass_fds=(lock,),
            )
        atexit.register(self.stop)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(self._process.pid).encode(), 0)

    def _wait_until_it_answers(self, credentials: Credentials) -> None:
        process = self._process
        deadline = time.monotonic() + self.start_timeout
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with (
            Progress(*columns, console=self.console, transient=True) as progress,
            httpx.Client(base_url=self.url, timeout=5.0, trust_env=False) as client,
        ):
            bar = progress.add_task("Starting Label Studio", total=USUAL_START_SECONDS)
            began = time.monotonic()
            while process is not None and process.poll() is None and time.monotonic() < deadline:
                progress.update(bar, completed=min(time.monotonic() - began, USUAL_START_SECONDS * 0.97))
                if _is_healthy(client):
                    self._check_token(client, credentials)
                    return
                time.sleep(0.2)
        died = process is not None and process.poll() is not None
        what = (
            f"Label Studio ended while starting (exit status {process.poll() if process else '?'})."
            if died
            else f"Label Studio did not answer on {self.url}/health within {self.start_timeout:.0f} s."
        )
        way_out = (
            "If the lines above do not explain it, remove the installed environment and start again"
            if died
            else "The machine may be busy: start again, the data is kept"
        )
        raise ServerError(f"{what} The end of {self.log_path}:\n\n{self.log_tail()}\n\n{way_out}.")

    def _check_token(self, client: httpx.Client, credentials: Credentials) -> None:
        """Check that *our* server answers, and that it knows the user of this data directory."""
        answer = client.get(
            "/api/current-user/whoami", headers={"Authorization": f"Token {credentials.token}"}, timeout=30
        )
        if answer.status_code != httpx.codes.OK:
            raise ServerError(
                f"Label Studio on {self.url} does not know the token in {self.data_dir / 'credentials.json'} "
                f"(HTTP {answer.status_code}). Another program may have taken the port, or the directory "
                "belongs to another installation: start again, or use a new directory."
            )


def _program(named: Path) -> Path:
    """Return the full path of the `label-studio` that is named: itself, or an environment or folder that has it.

    Raises:
        ServerError: there is none; it says what can be named.
    """
    for path in (named, named / "bin" / "label-studio", named / "label-studio"):
        if path.is_file() and os.access(path, os.X_OK):
            return path.absolute()
    what = "has no bin/label-studio" if named.is_dir() else "is not an executable file"
    raise ServerError(
        f"{named} {what}. Name an installed label-studio, or the folder of the environment it is installed in; "
        "without one, Label Studio is installed."
    )


def _bindable_port(host: str, port: int | None) -> int:
    with socket.socket() as probe:
        # As the server itself will do: a port in TIME_WAIT from the run before is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port or 0))
        except OSError as error:
            raise ServerError(
                f"Port {port} on {host} cannot be used ({error.strerror}). Choose another, or none for a free one."
            ) from error
        return int(probe.getsockname()[1])


def _is_healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == httpx.codes.OK
    except httpx.TransportError:  # nobody listens yet
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Install Label Studio, each version in its own environment.

    Called as `python -m everylabel.scripts.local_label_studio.server FOLDER [VERSION ...]`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(stderr=True)
    if not given or given[0].startswith("-"):
        console.print(
            "Usage: python -m everylabel.scripts.local_label_studio.server FOLDER [VERSION ...]", markup=False
        )
        return 2
    folder, *versions = given
    try:
        for version in versions or [NEWEST]:
            install(environment_in(Path(folder), version), version, console=console)
    except InstallError as error:
        console.print(str(error), style="red", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
