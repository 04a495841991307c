"""What `everylabel connect` asks and changes on a person's terminal."""

import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

from everylabel.backend.label_studio.hotkeys import TOO_OLD, submits_with_enter
from everylabel.backend.label_studio.required_class import MESSAGE, requires_class
from tests.everylabel_process import REPOSITORY

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Choices name="label" toName="image">
    <Choice value="0"/><Choice value="1"/><Choice value="2"/><Choice value="3"/><Choice value="4"/>
    <Choice value="5"/><Choice value="6"/><Choice value="7"/><Choice value="8"/><Choice value="9"/>
  </Choices>
</View>"""
QUESTION = 'Let it refuse (adds required="true" to the <Choices> of the labeling config)?'


@pytest.fixture
def project(label_studio, digits):
    return label_studio.digits_project(digits, 12, "asked on a terminal", CONFIG)


def config_of(label_studio, project):
    return label_studio.api("GET", f"/api/projects/{project.id}/")["label_config"]


def on_a_terminal(everylabel_backend, *arguments, answer, seconds=120):
    """Run a command on a terminal of its own; give `answer` once it asks, and return its status and all it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "everylabel.scripts.cli", *arguments],
        env={**everylabel_backend.environment, "TERM": "xterm", "COLUMNS": "200"},
        cwd=REPOSITORY,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        close_fds=True,
    )
    os.close(theirs)
    shown, answered, deadline = "", False, time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.2)[0]:
                continue
            try:
                some = os.read(ours, 65_536)
            except OSError:  # Linux says so when the last process has closed the terminal
                break
            if not some:
                break
            shown += some.decode(errors="replace")
            if not answered and "[y/N]" in shown:
                os.write(ours, f"{answer}\n".encode())
                answered = True
        status = process.wait(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)
    return status, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


@pytest.mark.parametrize(("answer", "required"), [("y", True), ("n", False)])
def test_on_a_terminal_connect_asks_before_it_changes_the_config(
    label_studio, everylabel_backend, project, answer, required
):
    status, shown = on_a_terminal(everylabel_backend, "connect", "--project", str(project.id), answer=answer)
    assert status == 0, shown
    assert QUESTION in shown
    assert requires_class(config_of(label_studio, project)) is required
    assert (MESSAGE in shown) is required
    assert f"Connected project {project.id}" in shown


def test_without_a_terminal_connect_changes_nothing_and_says_how(label_studio, everylabel_backend, project):
    before = config_of(label_studio, project)
    said = everylabel_backend.command("connect", "--project", str(project.id))
    assert said.returncode == 0, said.stderr
    assert "--require-class makes it refuse one" in said.stdout
    assert config_of(label_studio, project) == before


def test_both_options_ask_nothing_and_set_what_they_say(label_studio, everylabel_backend, project):
    client = everylabel_backend.services.label_studio
    before = client.hotkeys()
    if before is None:
        said = everylabel_backend.command(
            "connect", "--project", str(project.id), "--require-class", "--hotkeys"
        )
        assert said.returncode == 0, said.stderr
        assert " ".join(TOO_OLD.split()) in " ".join(said.stdout.split())
        assert requires_class(config_of(label_studio, project))
        return
    try:
        client.save_hotkeys({})
        assert not submits_with_enter(client.hotkeys())
        said = everylabel_backend.command(
            "connect", "--project", str(project.id), "--require-class", "--hotkeys"
        )
        assert said.returncode == 0, said.stderr
        assert "Enter submits now" in said.stdout
        assert submits_with_enter(client.hotkeys())
    finally:
        client.save_hotkeys(before or {})
    assert requires_class(config_of(label_studio, project))
