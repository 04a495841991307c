"""The machine that a figure was measured on, and what else it was doing meanwhile."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everylabel.model.cores import usable_cores

STAT = Path("/proc/stat")
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """A machine and its load during a measurement: figures from a busy machine can be told apart."""

    processor: str
    cores: int
    memory_bytes: int
    load_before: float
    """Load average of one minute."""
    load_after: float
    """The same; what was measured is part of it."""
    others: float | None
    """Cores that all other processes kept busy, on average; None where the system does not say."""
    stolen: float | None
    """Cores that the host gave to somebody else, on average."""
    seconds: float
    """How long it was measured."""


class Watch:
    """A stopwatch of the machine's load, started when it is made."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._began = time.monotonic()
        self._busy, self._stolen, self._own = *_processor_seconds(), _own_seconds()

    def machine(self) -> Machine:
        """Return the machine and its load since the watch was made.

        Child processes that are still running count as others.
        """
        seconds = max(time.monotonic() - self._began, 1e-9)
        busy, stolen = _processor_seconds()
        known = busy is not None and self._busy is not None
        own = _own_seconds() - self._own
        return Machine(
            processor=processor(),
            cores=usable_cores(),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            load_before=self._load,
            load_after=os.getloadavg()[0],
            others=max(0.0, ((busy or 0) - (self._busy or 0) - own) / seconds) if known else None,
            stolen=((stolen or 0) - (self._stolen or 0)) / seconds if known else None,
            seconds=seconds,
        )


def sentence(machine: dict[str, Any]) -> str:
    """Describe a machine, as read from JSON, in one sentence."""
    said = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / 1e9:.0f} GB of memory; "
        f"load average {machine['load_before']:.2f} before and {machine['load_after']:.2f} after"
    )
    if machine["others"] is not None:
        said += f", other processes on {machine['others']:.2f} cores meanwhile"
    if machine["stolen"]:
        said += f", {machine['stolen']:.2f} taken by the host"
    return f"{said}; {machine['seconds']:.0f} s."


def processor() -> str:
    """Return the processor's name as the system gives it."""
    if CPUINFO.exists():
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _processor_seconds() -> tuple[float | None, float | None]:
    """Return the busy seconds of all processes since boot, and the seconds stolen by the host (proc(5))."""
    if not STAT.exists():
        return None, None
    user, nice, system, _idle, _wait, interrupts, soft, stolen = (
        int(ticks) / os.sysconf("SC_CLK_TCK")
        for ticks in STAT.read_text(encoding="ascii").split("\n")[0].split()[1:9]
    )
    return user + nice + system + interrupts + soft, stolen


def _own_seconds() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])
