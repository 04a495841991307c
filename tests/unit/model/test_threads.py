"""How many threads numerical libraries take."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.everylabel_process import REPOSITORY

LIMITED = """
from pathlib import Path
import numpy, sklearn.cluster, torch
from threadpoolctl import threadpool_info
from everylabel.model.threads import limit_threads, single_threaded
limit_threads({n})
with single_threaded():
    assert all(pool["num_threads"] == 1 for pool in threadpool_info())
    # The lowest threadpoolctl that we allow must know the BLAS that the wheels of numpy bring.
    bundled = [path.name for path in Path(numpy.__file__).parent.parent.glob("numpy.libs/*openblas*")]
    seen = [Path(pool["filepath"]).name for pool in threadpool_info()]
    assert {{*bundled}} <= {{*seen}}, (bundled, seen)
print(max(pool["num_threads"] for pool in threadpool_info()), torch.get_num_threads())
"""


def limited_to(n: int) -> str:
    """Said by a process of its own: the limit stays for good."""
    command = [sys.executable, "-c", LIMITED.format(n=n)]
    environment = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, env=environment
    ).stdout.strip()


@pytest.mark.extended
def test_a_limit_holds_for_every_library_and_outlives_single_threaded_parts():
    assert limited_to(1) == "1 1"
    assert limited_to(2) == "2 2"
