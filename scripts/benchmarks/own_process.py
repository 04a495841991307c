"""Call a function in a process of its own, to measure its memory and to be able to stop it."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def alone(function: Callable[..., Any], *given: Any, seconds: float | None = None) -> Any:
    """Call a function in a process of its own.

    Args:
        function: importable by name.
        given: its arguments.
        seconds: a time limit; None waits for as long as it takes.

    Raises:
        ChildProcessError: the call exceeds its time, or the process ends without an answer.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, given), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise ChildProcessError(f"more than {seconds:.0f} s")
        answer = receiver.recv()
    except EOFError as error:
        raise ChildProcessError("stopped without an answer") from error
    finally:
        process.kill()
        process.join()
        receiver.close()
    if isinstance(answer, Exception):
        raise ChildProcessError(str(answer))
    return answer


def peak_bytes() -> int:
    """Return the most memory this process has held; `getrusage` would include its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(
            int(line.split()[1]) * 1024
            for line in status.read_text().splitlines()
            if line.startswith("VmHWM")
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _answer(sender: Connection, function: Callable[..., Any], given: Sequence[Any]) -> None:
    try:
        answer = function(*given)
    except Exception as error:  # noqa: BLE001 - whatever another package raises is what the table says
        answer = ChildProcessError(
            f"{type(error).__name__}: {error}".partition(" with shape")[0].splitlines()[0]
        )
    sender.send(answer)
