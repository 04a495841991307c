"""The accuracy that is stated of the crops nobody has labelled, and its interval."""

import numpy as np
import pytest

from everylabel.model.evaluation.accuracy import (
    AT_MOST,
    MIN_LABELS,
    AccuracyEstimate,
    estimate_pool_accuracy,
)
from everylabel.model.evaluation.check_set import CheckPredictions

pytestmark = pytest.mark.numbers


def pool(n=2000, best=0.9, k=2):
    found = np.full((n, k), (1 - best) / (k - 1), dtype=np.float32)
    found[np.arange(n), np.arange(n) % k] = best
    return found


def check(right, wrong, confidence=0.9):
    n = right + wrong
    return CheckPredictions(np.full(n, confidence), np.arange(n) < right)


def test_without_check_crops_it_is_the_mean_confidence_inside_an_interval():
    found = estimate_pool_accuracy(pool(), ("a", "b"), 50)
    assert found.estimate == pytest.approx(0.9, abs=1e-3)
    assert found.low < 0.9 < found.high
    assert (found.n_crops, found.check, found.is_contradicted) == (2000, None, False)


def test_check_crops_pull_it_their_way_and_narrow_it():
    none = estimate_pool_accuracy(pool(), ("a", "b"), 50)
    good = estimate_pool_accuracy(pool(), ("a", "b"), 50, check=check(40, 0))
    bad = estimate_pool_accuracy(pool(), ("a", "b"), 50, check=check(20, 20))
    assert bad.estimate < none.estimate - 0.05
    assert good.estimate > none.estimate
    assert good.high - good.low < none.high - none.low
    assert (bad.check.correct, bad.check.n) == (20, 40)


def test_check_crops_that_say_something_else_are_told():
    found = estimate_pool_accuracy(pool(best=0.995), ("a", "b"), 100, check=check(6, 14, confidence=0.995))
    assert found.is_contradicted
    assert not estimate_pool_accuracy(pool(), ("a", "b"), 100, check=check(18, 2)).is_contradicted


def test_a_few_wrong_among_few_blind_check_crops_contradict_nothing():
    for low, high, right, wrong in ((0.96, 1.0, 9, 2), (0.82, 0.99, 3, 3), (0.5, 0.7, 6, 0)):
        found = AccuracyEstimate((low + high) / 2, low, high, 1000, check(right, wrong).counted())
        assert not found.is_contradicted, "under some accuracy within the interval, chance explains it"
    for low, high, right, wrong in ((0.96, 1.0, 7, 4), (0.88, 0.97, 2, 4), (0.5, 0.7, 20, 0)):
        found = AccuracyEstimate((low + high) / 2, low, high, 1000, check(right, wrong).counted())
        assert found.is_contradicted


@pytest.mark.parametrize("n_labels", [10, 25, 50, 100, 400])
def test_more_labels_narrow_the_interval_and_a_confidence_nobody_calibrated_widens_it(n_labels):
    now = estimate_pool_accuracy(pool(), ("a", "b"), n_labels)
    later = estimate_pool_accuracy(pool(), ("a", "b"), 2 * n_labels)
    uncalibrated = estimate_pool_accuracy(pool(), ("a", "b"), n_labels, calibrated=False)
    assert now.high - now.low >= later.high - later.low
    assert uncalibrated.high - uncalibrated.low > now.high - now.low
    for found in (now, later, uncalibrated):
        assert 0 <= found.low <= found.estimate <= found.high <= 1


def test_nothing_is_said_without_a_model_or_labels_or_crops():
    assert estimate_pool_accuracy(pool(), ("a", "b"), MIN_LABELS - 1) is None
    assert estimate_pool_accuracy(np.ones((9, 1), dtype=np.float32), ("a",), 50) is None
    assert estimate_pool_accuracy(np.empty((0, 2), dtype=np.float32), ("a", "b"), 50) is None


def test_classes_and_what_they_are_taken_for():
    """Of class b a fifth is taken for a; nothing is said of class c with one label, nor of d with four crops."""
    rows = np.zeros((1004, 4), dtype=np.float32)
    rows[:600] = (0.85, 0.13, 0.01, 0.01)
    rows[600:1000] = (0.04, 0.94, 0.01, 0.01)
    rows[1000:] = (0.1, 0.1, 0.1, 0.7)
    found = estimate_pool_accuracy(rows, ("a", "b", "c", "d"), 100, single_classes=("c",))
    assert [one.name for one in found.by_class] == ["a", "b"]
    a, b = found.by_class
    assert a.precision.estimate == pytest.approx(0.85, abs=0.01)
    assert b.recall.estimate == pytest.approx(400 * 0.94 / (400 * 0.94 + 600 * 0.13), abs=0.01)
    for share in (a.recall, a.precision, b.recall, b.precision):
        assert 0 <= share.low < share.estimate < share.high <= 1
    first = found.confusions[0]
    assert (first.name, first.predicted) == ("b", "a")
    assert first.share == pytest.approx(600 * 0.13 / (400 * 0.94 + 600 * 0.13), abs=0.01)
    assert first.crops == pytest.approx(78, abs=2)


def test_a_large_pool_is_estimated_from_a_part_of_it():
    whole = estimate_pool_accuracy(pool(3 * AT_MOST), ("a", "b"), 50)
    assert whole.n_crops == 3 * AT_MOST
    assert whole.estimate == pytest.approx(0.9, abs=1e-3)
