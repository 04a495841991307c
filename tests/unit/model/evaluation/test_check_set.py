import numpy as np
import pytest
from scipy.stats import binom

from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.evaluation.check_set import (
    accuracy_interval,
    check_crops_wanted,
    predict_check_crops,
    wilson_interval,
)


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


@pytest.mark.parametrize("noise", [1.5, 3.0])
def test_the_stated_interval_of_a_session_holds_the_accuracy_on_unlabelled_crops(noise):
    """The whole way there: chosen labels, drawn check labels, cross-fitted estimate, against what nobody could know."""
    centres = np.random.default_rng(3).standard_normal((2, 32))
    covered, runs = 0, 100
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        codes = rng.integers(2, size=400)
        x = (centres[codes] + noise * rng.standard_normal((400, 32))).astype(np.float32)
        labels = np.asarray(["ant", "bee"])[codes]
        check = rng.permutation(400)[:15]
        # The other labels are the hardest crops, as a query strategy would choose them.
        side = np.abs((x - x.mean(axis=0)) @ (centres[1] - centres[0]))
        labeled = np.union1d(check, np.setdiff1d(np.argsort(side), check)[:45])
        classifier = EmbeddingClassifier().adapt(x)
        found = predict_check_crops(
            classifier, x[labeled], list(labels[labeled]), np.isin(labeled, check), seed
        ).counted()
        fitted = classifier.fresh().fit(x[labeled], list(labels[labeled]))
        free = np.setdiff1d(np.arange(400), labeled)
        guesses = np.asarray(fitted.classes_)[fitted.predict_proba(x[free]).argmax(axis=1)]
        covered += found.low <= (guesses == labels[free]).mean() <= found.high
    assert covered / runs >= 0.93


@pytest.mark.parametrize("truth", [0.7, 0.9, 0.97, 0.99])
@pytest.mark.parametrize("n", [5, 10, 15, 60])
def test_the_interval_shown_covers_also_where_almost_every_crop_is_right(n, truth):
    """Wilson covers 0.99 in 0.86 to 0.91 of small check sets."""
    chance = binom.pmf(np.arange(n + 1), n, truth)
    inside = [low <= truth <= high for low, high in (accuracy_interval(k, n) for k in range(n + 1))]
    assert chance @ inside > 0.91  # whole numbers of crops: no interval covers 0.95 at every truth


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
    found = predict_check_crops(EmbeddingClassifier(penalty=0.01), x, labels, np.arange(120) < 60)
    assert found is not None
    estimate = found.counted()
    assert estimate.n == 60
    assert estimate.estimate < 0.75
    assert estimate.low < estimate.estimate < estimate.high


def test_a_class_seen_only_in_the_check_set_counts_as_missed():
    x = np.eye(6, dtype=np.float32)
    found = predict_check_crops(EmbeddingClassifier(), x, ["a", "b", "a", "b", "a", "new"], np.arange(6) == 5)
    assert found is not None
    estimate = found.counted()
    assert (estimate.correct, estimate.n) == (0, 1)


@pytest.mark.parametrize("is_check", [[False, False, False], [True, False, False]])
def test_few_labels(is_check):
    x = np.eye(3, dtype=np.float32)
    estimate = predict_check_crops(EmbeddingClassifier(), x, ["a", "a", "b"], np.asarray(is_check))
    assert (estimate is None) == (not any(is_check))


def test_a_single_label_that_is_a_check_label_cannot_be_judged():
    assert predict_check_crops(EmbeddingClassifier(), np.ones((1, 3)), ["a"], np.array([True])) is None


def test_labels_of_one_class_alone_have_no_accuracy():
    is_check = np.array([True, False, False, True])
    assert predict_check_crops(EmbeddingClassifier(), np.ones((4, 3)), ["a"] * 4, is_check) is None
