"""Runs an `everylabel` command and writes what it cost beside it: `python -m tests.measure.measured_command FILE status`."""

import json
import os
import sys
import time
from pathlib import Path

from everylabel.scripts.cli import main


def cost(pid: int | str = "self") -> dict[str, float]:
    """The most memory a process has held since it was last asked to forget, and what it holds now, in megabytes."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    held = {line[0]: int(line[1]) / 1000 for line in lines if line and line[0] in {"VmHWM:", "VmRSS:"}}
    return {"peak": held["VmHWM:"], "holds": held["VmRSS:"]}


if __name__ == "__main__":
    path, sys.argv = Path(sys.argv[1]), ["everylabel", *sys.argv[2:]]
    began = time.perf_counter()
    try:
        main()
    finally:
        worked = sum(os.times()[:4])
        seconds = time.perf_counter() - began
        path.write_text(json.dumps({**cost(), "seconds": seconds, "worked": worked}), encoding="utf-8")
