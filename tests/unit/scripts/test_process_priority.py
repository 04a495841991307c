"""Commands that embed give way to the trainer, and a person's shell is as it was afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from everylabel.scripts.cli import COMMANDS, EMBEDDING
from everylabel.scripts.process_priority import COMMAND, TRAINER

# Runs `everylabel NAME` with a stand-in for its work; prints the priority of each thread, and of this session and that
# of the work before, meanwhile and after.
RUN = """
import json, os, sys, threading
from pathlib import Path
from everylabel.scripts import cli, process_priority

started, found = threading.Event(), {"shell": os.getpid()}
threading.Thread(target=started.wait, daemon=True).start()  # as libraries start some when they are imported

def group(process):
    try:
        return Path(f"/proc/{process}/autogroup").read_text()
    except OSError:
        return None

def work():
    found["threads"] = [os.getpriority(os.PRIO_PROCESS, thread) for thread in process_priority.threads()]
    found["meanwhile"], found["own"] = group(found["shell"]), group("self")

found["before"] = group("self")
cli.app, sys.argv = work, ["everylabel", *sys.argv[1:]]
cli.main()
print(json.dumps({**found, "after": group(found["shell"])}))
"""
WAIT = """
import sys, time
from everylabel.scripts import cli

def work():
    try:
        print("begun", flush=True)
        time.sleep(100)
    except KeyboardInterrupt:
        sys.exit(7)

cli.app, sys.argv = work, ["everylabel", "connect"]
cli.main()
"""


def run(*command):
    done = subprocess.run(
        [sys.executable, "-c", RUN, *command],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        start_new_session=True,
    )
    return json.loads(done.stdout)


def test_every_thread_of_a_command_that_embeds_gives_way_and_a_person_s_shell_does_not():
    found = run("connect", "--project", "1")
    assert set(found["threads"]) == {COMMAND}
    assert found["before"] == found["meanwhile"] == found["after"], (
        "also where the command is killed meanwhile"
    )
    if found["before"] is not None:
        assert found["own"].endswith(f"nice {COMMAND}\n")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it stays one process")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 7), (signal.SIGTERM, -15), (signal.SIGKILL, -9)]
)
def test_a_signal_ends_the_command_as_if_it_were_one_process(number, status):
    process = subprocess.Popen([sys.executable, "-c", WAIT], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == b"begun\n"
    process.send_signal(number)
    assert process.stdout.read() == b"", "it is open for as long as the command lives"
    assert process.wait(60) == status
    process.stdout.close()


def test_a_command_that_answers_keeps_its_priority():
    found, usual = run("status"), run("rounds")
    assert found["threads"] == usual["threads"]
    assert found["before"] == found["meanwhile"] == found["after"]
    assert COMMAND not in found["threads"] or min(usual["threads"]) == COMMAND


def test_they_are_commands_and_the_trainer_comes_before_them():
    assert set(COMMANDS) > EMBEDDING
    assert {"connect", "sync", "embed", "init"} <= EMBEDDING
    assert TRAINER < COMMAND


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_a_priority_that_is_lower_still_is_kept():
    program = (
        "import os; from everylabel.scripts.process_priority import lower_priority; lower_priority(10); "
        "print(os.getpriority(os.PRIO_PROCESS, 0))"
    )
    done = subprocess.run(
        ["nice", "-n", "15", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        start_new_session=True,
    )
    assert int(done.stdout) >= 15
