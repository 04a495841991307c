"""The time that the next labels take and what they bring, in a person's terms."""

from datetime import datetime, timezone

import numpy as np
import pytest

from everylabel.backend.rounds.outlook import (
    certificate_in_words,
    curve_of,
    next_labels_in_words,
    seconds_per_label,
    span,
)
from everylabel.backend.store import Annotation, RoundRecord
from everylabel.backend.store.round_snapshot import RoundSnapshot
from everylabel.model.evaluation.forecast import Forecast


def labelled(id_, seconds, choice="a", accepted=False):
    opened = 1_700_000_000.0 + 1000 * id_
    at = datetime.fromtimestamp(opened + seconds, timezone.utc).isoformat().replace("+00:00", "Z")
    return Annotation(id_, id_, 1, choice, False, at, accepted=accepted, opened_at=opened)


def snapshot(confidence):
    n = len(confidence)
    return RoundSnapshot(
        1, ("a", "b"), 0.9, np.arange(1, n + 1), np.zeros(n, dtype=np.uint16), np.asarray(confidence), ()
    )


def test_the_time_for_a_label_is_the_median_of_the_forms_people_had_open():
    times = [labelled(number, seconds) for number, seconds in enumerate((4, 5, 6, 7, 250))]
    assert seconds_per_label(times) == pytest.approx(6)
    left_open = labelled(7, 5000)
    machine = labelled(8, 1, accepted=True)
    skipped = labelled(9, 1, choice=None)
    assert seconds_per_label([*times, left_open, machine, skipped]) == pytest.approx(6)
    assert seconds_per_label(times[:4]) is None


def test_what_the_next_labels_take_and_buy_is_a_sentence():
    found = Forecast(50, 0.0123, 0.0, 0.03)
    assert next_labels_in_words(found, 7.2) == (
        "The next 50 labels take about 6 minutes and buy about 1.2 points of accuracy."
    )
    assert next_labels_in_words(found, None) == "The next 50 labels buy about 1.2 points of accuracy."
    assert next_labels_in_words(Forecast(50, 0.0002, 0, 0.001), 1.0).endswith("buy next to nothing.")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "about 1 s"),
        (40, "about 40 s"),
        (50, "about a minute"),
        (360, "about 6 minutes"),
        (3000, "about an hour"),
        (9000, "about 2 hours"),
    ],
)
def test_spans(seconds, words):
    assert span(seconds) == words


def test_a_certificate_is_priced_from_the_crops_that_are_left():
    sure = snapshot(np.full(2000, 0.9995, dtype=np.float32))
    words = certificate_in_words(sure, range(1, 101), 6.0)
    assert words.startswith("Certifying 2% of errors on 1,")
    assert " looks, about " in words
    assert "No set of crops" in certificate_in_words(snapshot(np.full(300, 0.6, dtype=np.float32)), (), None)
    assert certificate_in_words(None, (), None) == ""
    assert certificate_in_words(snapshot(np.zeros(10, dtype=np.float32)), (), None) == ""


def a_round(number, low, high, encoder="", n_crops=1000):
    told = {"estimate": 0.9, "low": low, "high": high, "n_crops": n_crops, "contradicted": False}
    return RoundRecord(
        number=number,
        model_version=f"round {number}",
        n_labels=10 * number,
        classes=("a", "b"),
        threshold=0.9,
        check=(),
        batch=(),
        pre_annotated=(),
        suspected=(),
        check_set={"estimate": 0.8, "low": 0.4, "high": 0.97, "n": 5},
        seconds={},
        finished_at=0.0,
        accuracy={**told, "by_class": [], "confusions": []} if n_crops else None,
        encoder=encoder,
    )


def test_an_estimate_counts_as_fewer_check_crops_the_wider_it_is():
    narrow, wide = curve_of([a_round(1, 0.88, 0.92), a_round(2, 0.7, 0.98)])
    assert narrow.n > wide.n
    assert narrow.correct == pytest.approx(0.9 * narrow.n)
    (counted,) = curve_of([a_round(1, 0, 0, n_crops=0)])
    assert (counted.correct, counted.n) == (4, 5)


@pytest.mark.parametrize(
    ("encoders", "told"),
    [
        (["", "", "old", "old", "new", "new"], [50, 60]),
        (["old", "new", "old", "old"], [30, 40]),
        (["", "", "now", "now"], [10, 20, 30, 40]),
        (["", ""], [10, 20]),
        ([], []),
    ],
)
def test_what_a_switch_of_the_encoder_brought_is_not_taken_for_what_labels_bring(encoders, told):
    rounds = [a_round(number, 0.8, 0.95, encoder) for number, encoder in enumerate(encoders, 1)]
    assert [point.n_labels for point in curve_of(rounds)] == told
