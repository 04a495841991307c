"""Stated accuracies of replays beside the truth, for people and for programs."""

from dataclasses import replace

from everylabel.scripts.replay.estimates import EstimatedRound, estimates_as_json, stopped_at
from everylabel.scripts.replay.replay import Curve

STATED = EstimatedRound(25, 0.8123456, 0.7, 0.9, 0.95, 0.03)


def curve(*estimates):
    return Curve("digits", "auto", 0, (), (), (), None, 0.0, estimates)


def test_each_row_says_what_was_stated_beside_the_truth_and_whether_blind_crops_said_otherwise():
    fifty = replace(STATED, n_labels=50, estimate=0.91, contradicted=True)
    rows = estimates_as_json([curve(STATED, replace(STATED, n_labels=30), fifty)])
    assert [(row["n_labels"], row["contradicted"], row["stopped"]) for row in rows] == [
        (25, False, False),
        (50, True, False),
        (50, True, True),
    ]
    assert rows[0] == {
        "data": "digits",
        "strategy": "auto",
        "seed": 0,
        "n_labels": 25,
        "estimate": 0.81235,
        "low": 0.7,
        "high": 0.9,
        "true": 0.95,
        "ece": 0.03,
        "contradicted": False,
        "stopped": False,
    }


def test_an_interval_holds_the_truth_at_its_ends_too():
    assert not STATED.holds
    assert replace(STATED, true=0.9).holds
    assert stopped_at(curve(STATED)) is None
