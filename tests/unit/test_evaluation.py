import numpy as np
import pytest

from model.classifier import EmbeddingClassifier
from model.evaluation import check_crops_wanted, estimate_accuracy, wilson_interval


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(9, 10, 0.596, 0.982), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (50, 100, 0.404, 0.596), (0, 0, 0, 1)],
)
def test_wilson_against_published_values(correct, n, low, high):
    assert wilson_interval(correct, n) == pytest.approx((low, high), abs=1e-3)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        low, high = wilson_interval(int(rng.binomial(20, 0.85)), 20)
        covered += low <= 0.85 <= high
    assert covered / 2000 > 0.93


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="5 of 4"):
        wilson_interval(5, 4)


def test_one_crop_in_ten_is_a_check_crop():
    assert [check_crops_wanted(n, 5, 0.1) for n in (0, 4, 5, 15, 25, 95)] == [0, 0, 1, 2, 3, 10]
    assert check_crops_wanted(95, 5, 0.0) == 0


def test_check_labels_are_judged_by_models_that_have_not_seen_them():
    """Labels without any pattern: a model that had seen them would be right every time."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 300)).astype(np.float32)
    labels = [str(code) for code in rng.integers(2, size=120)]
    estimate = estimate_accuracy(
        EmbeddingClassifier(penalty=0.01), x, labels, np.arange(120) < 60
    )
    assert estimate is not None
    assert estimate.n == 60
    assert estimate.estimate < 0.75
    assert estimate.low < estimate.estimate < estimate.high


def test_a_class_seen_only_in_the_check_set_counts_as_missed():
    x = np.eye(6, dtype=np.float32)
    estimate = estimate_accuracy(
        EmbeddingClassifier(), x, ["a", "b", "a", "b", "a", "new"], np.arange(6) == 5
    )
    assert estimate is not None
    assert (estimate.correct, estimate.n) == (0, 1)


@pytest.mark.parametrize("is_check", [[False, False, False], [True, False, False]])
def test_few_labels(is_check):
    x = np.eye(3, dtype=np.float32)
    estimate = estimate_accuracy(EmbeddingClassifier(), x, ["a", "a", "b"], np.asarray(is_check))
    assert (estimate is None) == (not any(is_check))


def test_a_single_label_that_is_a_check_label_cannot_be_judged():
    assert estimate_accuracy(EmbeddingClassifier(), np.ones((1, 3)), ["a"], np.array([True])) is None
