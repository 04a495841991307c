"""The short form of `python -m tests.measure.soak`."""

from __future__ import annotations

import pytest

from tests.measure.soak import CROPS, soak


@pytest.mark.extended
def test_hundreds_of_webhooks_leave_nothing_behind_but_what_is_kept_on_purpose(tmp_path):
    first, last = soak(tmp_path, events=300)
    assert last.rows["everylabel-inbox.events"] == 0
    assert last.rows["everylabel.annotations"] <= CROPS
    assert last.rows["everylabel.rounds"] == last.rounds
    assert last.rows["jobs.requests"] <= 2
    assert last.files <= first.files + min(20, last.rounds)  # of each round its model; the newest twenty
    for process, held in last.megabytes.items():
        assert held < first.megabytes[process] + 100, process
