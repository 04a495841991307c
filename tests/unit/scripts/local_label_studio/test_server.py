"""How the server behaves when something is in the way: stand-in programs play Label Studio and pip's interpreter."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from everylabel.backend.label_studio import versions
from everylabel.scripts.local_label_studio import install
from everylabel.scripts.local_label_studio.install import InstallError
from everylabel.scripts.local_label_studio.server import Credentials, LabelStudioServer, ServerError

#: Answers what start() asks for, starts a child of its own as Label Studio may, and notes its environment.
STAND_IN = """
import http.server, json, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open("seen.json", "w") as file:
    json.dump({"environment": dict(os.environ), "child": child.pid, "pid": os.getpid()}, file)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.headers.get("Authorization") == "Token " + os.environ["LABEL_STUDIO_USER_TOKEN"]
        self.send_response(200 if self.path == "/health" or known else 401)
        self.end_headers()
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def program(path: Path, source: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{source}")
    path.chmod(0o755)
    return path


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def stand_in(tmp_path):
    server = LabelStudioServer(tmp_path / "data", executable=program(tmp_path / "stand-in", STAND_IN))
    yield server
    server.stop()


def seen(server: LabelStudioServer) -> dict:
    return json.loads((server.data_dir / "seen.json").read_text())


def test_stopping_ends_the_whole_group_and_may_be_said_twice(stand_in):
    stand_in.start()
    noted = seen(stand_in)
    assert lives(noted["child"])
    stand_in.stop()
    stand_in.stop()
    assert not lives(noted["pid"])
    deadline = time.monotonic() + 60
    while lives(noted["child"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lives(noted["child"])


def test_ctrl_c_just_when_it_is_started_leaves_no_process(stand_in, monkeypatch):
    started, popen = [], subprocess.Popen

    def interrupted(*given, **options):
        started.append(popen(*given, **options))
        os.kill(os.getpid(), signal.SIGINT)
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stand_in.start()
    assert not lives(started[0].pid)


def test_a_restart_keeps_the_address_and_the_login(stand_in):
    stand_in.start()
    url, credentials = stand_in.url, stand_in.credentials
    stand_in.restart()
    assert (stand_in.url, stand_in.credentials) == (url, credentials)


def test_nothing_of_ours_reaches_label_studio_s_environment(stand_in, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("DATABASE_NAME", "/ours.sqlite3")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "ours")
    stand_in.start()
    environment = seen(stand_in)["environment"]
    assert not {"PYTHONPATH", "DATABASE_NAME", "LABEL_STUDIO_API_KEY"} & set(environment)
    assert environment["LABEL_STUDIO_BASE_DATA_DIR"] == str(stand_in.data_dir)
    assert (environment["SENTRY_DSN"], environment["FRONTEND_SENTRY_DSN"]) == ("", "")


def test_a_second_server_on_the_same_data_names_the_first(stand_in):
    stand_in.start()
    second = LabelStudioServer(stand_in.data_dir, executable=stand_in.executable)
    with pytest.raises(ServerError, match=rf"already running .*process {stand_in.pid}"):
        second.start()
    second.stop()
    assert stand_in.pid is not None


def test_a_server_that_dies_shows_its_last_words(tmp_path):
    dying = program(tmp_path / "dying", "import sys; print('no such table: users'); sys.exit(3)")
    with pytest.raises(ServerError, match=r"(?s)exit status 3.*no such table: users"):
        LabelStudioServer(tmp_path / "data", executable=dying).start()


def test_a_server_that_never_answers_is_given_up_and_ended(tmp_path):
    source = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(600)"
    server = LabelStudioServer(
        tmp_path / "data", executable=program(tmp_path / "silent", source), start_timeout=2
    )
    with pytest.raises(ServerError, match="did not answer"):
        server.start()
    assert not lives(int((tmp_path / "data" / "pid").read_text()))


def test_a_stranger_on_the_port_is_not_taken_for_ours(tmp_path):
    other = STAND_IN.replace("or known", "and True")
    server = LabelStudioServer(tmp_path / "data", executable=program(tmp_path / "other", other))
    with pytest.raises(ServerError, match="does not know the token"):
        server.start()
    assert server.pid is None


def test_a_port_that_is_taken_is_named(stand_in, tmp_path):
    stand_in.start()
    second = LabelStudioServer(tmp_path / "other", executable=stand_in.executable, port=stand_in.port)
    with pytest.raises(ServerError, match=f"Port {stand_in.port} .* cannot be used"):
        second.start()


def test_credentials_are_random_kept_and_private(tmp_path):
    first, again, other = (
        Credentials.of(tmp_path / "a"),
        Credentials.of(tmp_path / "a"),
        Credentials.of(tmp_path / "b"),
    )
    assert first == again
    assert first.token != other.token
    assert first.password != other.password
    assert stat.S_IMODE((tmp_path / "a" / "credentials.json").stat().st_mode) == 0o600


def test_damaged_credentials_are_named_instead_of_replaced(tmp_path):
    (tmp_path / "credentials.json").write_text("{")
    with pytest.raises(ServerError, match="is damaged"):
        Credentials.of(tmp_path)


def test_an_executable_that_is_none_is_named(tmp_path):
    with pytest.raises(ServerError, match="is not an executable file"):
        LabelStudioServer(tmp_path / "data", executable=tmp_path / "nothing").start()


@pytest.mark.parametrize("named", ["bin/label-studio", ".", "bin"])
def test_a_label_studio_is_named_by_a_relative_path_or_its_folder(tmp_path, monkeypatch, named):
    (tmp_path / "environment" / "bin").mkdir(parents=True)
    program(tmp_path / "environment" / "bin" / "label-studio", STAND_IN)
    monkeypatch.chdir(tmp_path / "environment")
    with LabelStudioServer(tmp_path / "data", executable=Path(named)) as server:
        assert seen(server)["pid"] == server.pid


def test_a_folder_without_label_studio_says_what_can_be_named(tmp_path):
    with pytest.raises(
        ServerError, match=r"has no bin/label-studio\. Name .*, or the folder of the environment"
    ):
        LabelStudioServer(tmp_path / "data", executable=tmp_path).start()


def test_a_python_without_ensurepip_gets_debian_s_command(tmp_path):
    python = program(tmp_path / "python", "import sys; print('ensurepip is not available'); sys.exit(1)")
    with pytest.raises(InstallError, match="apt-get install -y python3-venv"):
        install.install(tmp_path / "environment", python=python)


#: Plays `python -m venv --clear DIR`: an environment whose pip notes each call and fails the first time.
FAKE_PYTHON = """
import os, pathlib, sys
home = pathlib.Path(sys.argv[-1]); (home / "bin").mkdir(parents=True)
pip = home / "bin" / "python"
pip.write_text('''#!{python}
import pathlib, sys
home = pathlib.Path(__file__).parent.parent
if "-c" in sys.argv: sys.exit(0)
calls = home / "calls"
calls.write_text((calls.read_text() if calls.exists() else "") + "x")
(home / "asked").write_text(sys.argv[-1])
print("Collecting label-studio"); print("Installing collected packages: a, b")
if len(calls.read_text()) == 1: print("No space left on device"); sys.exit(1)
(home / "bin" / "label-studio").write_text("#!/bin/sh"); (home / "bin" / "label-studio").chmod(0o755)
''')
pip.chmod(0o755)
"""


def test_an_interrupted_installation_is_taken_up_and_a_finished_one_costs_nothing(tmp_path):
    python = program(tmp_path / "python", FAKE_PYTHON.replace("{python}", sys.executable))
    environment = tmp_path / "environment"
    with pytest.raises(InstallError, match=r"(?s)No space left on device.*goes on where it stopped"):
        install.install(environment, python=python)
    executable = install.install(environment, python=python)
    assert os.access(executable, os.X_OK)
    assert install.install(environment, python=python) == executable
    assert (environment / "calls").read_text() == "xx"


def test_a_moved_installation_is_not_trusted(tmp_path):
    python = program(tmp_path / "python", FAKE_PYTHON.replace("{python}", sys.executable))
    first = tmp_path / "first"
    with pytest.raises(InstallError):
        install.install(first, python=python)
    install.install(first, python=python)
    first.rename(tmp_path / "moved")
    install.install(tmp_path / "moved", python=python)
    assert (tmp_path / "moved" / "calls").read_text() == "xxx"


def test_a_link_to_an_installation_is_used_and_never_cleared(tmp_path):
    python = program(tmp_path / "python", FAKE_PYTHON.replace("{python}", sys.executable))
    first = tmp_path / "first"
    with pytest.raises(InstallError):
        install.install(first, python=python)
    install.install(first, python=python)
    (tmp_path / "link").symlink_to(first)
    executable = install.install(tmp_path / "link", python=python)
    assert os.access(executable, os.X_OK)
    assert (first / "calls").read_text() == "xx", "nothing was installed a third time"


def test_a_version_is_installed_as_named_and_never_taken_for_another(tmp_path):
    python = program(tmp_path / "python", FAKE_PYTHON.replace("{python}", sys.executable))
    environment = install.environment_in(tmp_path, "1.20.0")
    with pytest.raises(InstallError, match=r"Label Studio 1\.20\.0"):
        install.install(environment, "1.20.0", python=python)
    install.install(environment, "1.20.0", python=python)
    assert (environment / "asked").read_text() == "label-studio==1.20.0"
    install.install(environment, python=python)
    assert (environment / "asked").read_text() == f"label-studio=={versions.NEWEST}"


def test_the_module_installs_from_the_command_line_and_says_how(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "everylabel.scripts.local_label_studio.server"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Usage" in done.stderr
