"""How much memory embedding takes is measured on crops that are really embedded, each number on top of the one before."""

from __future__ import annotations

import re

from everylabel.scripts.benchmarks.measure_embedding_memory import measure


def test_each_number_of_crops_is_embedded_and_gets_a_peak(capsys):
    measure([40, 100])
    lines = capsys.readouterr().out.splitlines()
    found = [
        re.fullmatch(r"([\d,]+) crops, ([\d,]+) of them new: (\d+) MiB at the peak, \d+ s", line)
        for line in lines
    ]
    assert [(match[1], match[2]) for match in found] == [("40", "40"), ("100", "60")]
    assert int(found[1][3]) >= int(found[0][3]) > 0
