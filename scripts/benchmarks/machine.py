"""On what a figure was measured: the machine, and what else it was doing meanwhile."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STAT = Path("/proc/stat")
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """A machine while something was measured on it, by which a figure from a busy one is known."""

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
    """Looks at the machine from when it is made until it is asked."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._began = time.monotonic()
        self._busy, self._stolen, self._own = *_processor_seconds(), _own_seconds()

    def machine(self) -> Machine:
        """What it saw; processes that were started and are still running count as others."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        busy, stolen = _processor_seconds()
        known = busy is not None and self._busy is not None
        own = _own_seconds() - self._own
        return Machine(
            processor=processor(),
            cores=cores(),
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            load_before=self._load,
            load_after=os.getloadavg()[0],
            others=max(0.0, ((busy or 0) - (self._busy or 0) - own) / seconds) if known else None,
            stolen=((stolen or 0) - (self._stolen or 0)) / seconds if known else None,
            seconds=seconds,
        )


def sentence(machine: dict[str, Any]) -> str:
    """A machine, as JSON holds it, for a person."""
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
    """The processor's name as the system gives it."""
    if CPUINFO.exists():
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor_seconds() -> tuple[float | None, float | None]:
    """What all processes worked since the machine started, and what its host took from it (proc(5))."""
    if not STAT.exists():
        return None, None
    user, nice, system, _idle, _wait, interrupts, soft, stolen = (
        int(ticks) / os.sysconf("SC_CLK_TCK")
        for ticks in STAT.read_text(encoding="ascii").split("\n")[0].split()[1:9]
    )
    return user + nice + system + interrupts + soft, stolen


def _own_seconds() -> float:
    """What this process worked and those it started that have ended."""
    return sum(os.times()[:4])
