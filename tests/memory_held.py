"""How much of a file of embeddings a piece of work brings into memory: in a process whose peak is then the work's."""

import subprocess
import sys
from pathlib import Path

from tests.everylabel_process import REPOSITORY

WARM_UP_ROWS = 70_000
PROGRAM = """
import sys
import numpy as np
{work}
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024

rows = np.memmap(sys.argv[1], dtype=np.float16, mode="r", shape=({n}, {width}))
work(rows[:{warm_up}])
before = peak()
work(rows)
print((peak() - before) / rows.nbytes)
"""


def share_held(folder: Path, n: int, width: int, work: str) -> float:
    """The peak of memory above that of a few rows, as a share of the file.

    Args:
        folder: where the file of `n` rows of `width` float16 numbers, all 0, is made.
        n: rows.
        width: numbers of a row.
        work: Python that defines `work(rows)`.
    """
    path = folder / "pool.rows"
    with path.open("wb") as file:
        file.truncate(n * width * 2)
    program = PROGRAM.format(work=work, n=n, width=width, warm_up=WARM_UP_ROWS)
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY)},
    )
    return float(done.stdout)
