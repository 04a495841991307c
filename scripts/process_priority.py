"""Lower the priority of this process: people wait for the web server and for rounds, and nobody for what embeds."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from everylabel.backend.bounded_process import end_with_parent

TRAINER = 10
"""The niceness of the trainer: people wait for the web server with every click."""
COMMAND = 15
"""The niceness of commands that embed: people wait for the trainer's rounds. At 19 they would stand still where cores are busy."""
_GROUP = Path("/proc/self/autogroup")
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_in_the_background(work: Callable[[], None]) -> None:
    """Run the work of a command so that it gives way to a trainer on this machine.

    Where the kernel shares processor time among sessions first (sched(7), autogroup), priorities count only within one, and
    the session of a command is a person's shell. So the work has a process and a session of its own there: signals are
    passed on to it, and it ends with this process, which ends as it does.

    Args:
        work: Called once, here or in the other process.
    """
    if _niceness_of_group() is None:
        lower_priority(COMMAND)
        work()
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent = os.getpid()
    child = os.fork()
    if child:
        _follow(child)
    os.setsid()
    end_with_parent(parent)
    lower_priority(COMMAND)
    work()


def lower_priority(niceness: int) -> None:
    """Lower the priority of every thread of this process, and of its session where it leads one; never raise it.

    Threads of the numerical libraries are started when these are imported, and keep the priority they had.

    Args:
        niceness: From 0 to 19.
    """
    before = _niceness_of_group()
    if before is not None and before < niceness and os.getsid(0) == os.getpid():
        with suppress(OSError):  # the kernel takes few changes a second from an ordinary user
            _GROUP.write_text(str(niceness), encoding="ascii")
    for thread in threads():
        with suppress(ProcessLookupError):
            if os.getpriority(os.PRIO_PROCESS, thread) < niceness:
                os.setpriority(os.PRIO_PROCESS, thread, niceness)


def threads() -> list[int]:
    """Return the threads of this process, as the kernel numbers them; 0, the process, where it does not tell."""
    try:
        return [int(path.name) for path in Path("/proc/self/task").iterdir()]
    except FileNotFoundError:  # only Linux has it
        return [0]


def _follow(child: int) -> NoReturn:
    """Pass signals on to a process, and end as it does."""

    def pass_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    def stop(_: int, __: object) -> None:
        os.kill(child, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)  # until the shell lets it go on
        os.kill(child, signal.SIGCONT)

    for number in _PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    signal.signal(signal.SIGTSTP, stop)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with suppress(OSError):  # some have no other handling
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)  # what is to be done at the end, the other process has done


def _niceness_of_group() -> int | None:
    try:
        return int(_GROUP.read_text(encoding="ascii").rsplit(maxsplit=1)[-1])  # "/autogroup-7 nice 0"
    except (OSError, ValueError, IndexError):
        return None
