"""What the page says of each annotator."""

from __future__ import annotations

from everylabel.backend.rounds.people import annotator_figures, said_of
from everylabel.backend.store import Annotation

NAMES = {1: "ann", 2: "bob"}


def labels(who, tasks, choice="a", seconds=4.0):
    return [
        Annotation(
            100 * who + task,
            task,
            who,
            choice,
            False,
            "2026-01-01T00:00:00.000000Z",
            opened_at=1767225600.0 - seconds,
        )
        for task in tasks
    ]


def test_agreement_is_of_shared_crops_and_has_an_interval():
    counted = labels(1, range(60)) + labels(2, range(30, 55)) + labels(2, range(55, 60), "b", seconds=9.0)
    ann, bob = annotator_figures(counted, NAMES, {"1": 0.97, "2": 0.8})
    assert (ann.name, ann.labels, ann.shared, ann.seconds) == ("ann", 60, 30, 4.0)
    assert ann.agreement.estimate == bob.agreement.estimate == 25 / 30
    assert ann.agreement.low < 0.75
    assert ann.agreement.high > 0.9
    assert ann.quality.estimate == 0.97 > bob.quality.estimate
    assert [*said_of(bob)][1] == "83 % (66 to 93)"


def test_nobody_is_shamed_on_ten_labels():
    counted = labels(1, range(10)) + labels(2, range(10), "b") + labels(3, range(50, 60))
    figures = {one.name: one for one in annotator_figures(counted, NAMES, {"1": 0.1, "2": 0.9})}
    assert figures["ann"].agreement is None
    assert figures["ann"].quality is None
    assert [*said_of(figures["ann"])] == ["4.0", "too few shared crops", "-"]
    assert [*said_of(figures["annotator 3"])] == ["4.0", "no shared crop", "-"]
