"""How an accuracy is worded: the interval leads until it is narrow, and always holds its own figure."""

import pytest

from everylabel.backend.rounds.accuracy import Accuracy
from everylabel.model.evaluation.check_set import accuracy_interval


def measured(correct, n):
    return Accuracy(correct / n, *accuracy_interval(correct, n), 1, 10 * n, n, correct)


@pytest.mark.parametrize("n", [*range(1, 60), 100, 250, 999])
def test_the_interval_holds_its_own_figure(n):
    for correct in range(n + 1):
        found = measured(correct, n)
        assert 0 <= found.low_percent <= found.percent <= found.high_percent <= 100
        assert (found.percent == 100) == (correct == n)
        assert (found.percent == 0) == (correct == 0)
        assert found.correct == correct


def test_more_check_crops_turn_the_interval_into_a_figure():
    assert (
        measured(7, 7).in_words().startswith("between 64 and 100 % (95 % confidence; right on 7 of 7 blind")
    )
    assert measured(3, 7).in_words().endswith("Too early to rely on.")
    assert measured(90, 100).in_words().startswith("90 %, between 82 and 95 %")
    assert measured(1, 1).in_words().count("1 of 1 blind check crop)") == 1
