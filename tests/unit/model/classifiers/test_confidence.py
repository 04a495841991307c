"""How a softmax is restated as how often such a prediction is right."""

import numpy as np
import pytest

from everylabel.model.classifiers.confidence import MOST_CONFIDENT, ConfidenceMap, shifted
from everylabel.model.classifiers.embedding import EmbeddingClassifier

pytestmark = pytest.mark.numbers


def softmax_of(n, k, seed=0):
    odds = np.random.default_rng(seed).normal(size=(n, k)) * 2
    found = np.exp(odds)
    return (found / found.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("k", [2, 3, 10, 40])
@pytest.mark.parametrize(
    ("n_labels", "n_contradicted"), [(1, 1), (10, 0), (50, 0), (50, 9), (100, 40), (5000, 100)]
)
def test_the_best_class_stays_the_best_and_rows_sum_to_one(k, n_labels, n_contradicted):
    before = softmax_of(2000, k)
    after = ConfidenceMap.learned(n_labels, n_contradicted, scale=2.0).apply(before)
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    np.testing.assert_allclose(after.sum(axis=1), 1, atol=1e-5)
    assert (after >= 0).all()
    assert np.isfinite(after).all()


@pytest.mark.parametrize("k", [2, 3, 10])
def test_what_was_restated_can_be_taken_back(k):
    before = softmax_of(2000, k)
    before = before[before.max(axis=1) < MOST_CONFIDENT]
    learned = ConfidenceMap.learned(50, 4, scale=2.0)
    assert np.abs(learned.apply(before) - before).max() > 0.05
    np.testing.assert_allclose(learned.undo(learned.apply(before)), before, atol=1e-3)


def test_a_map_that_changes_nothing_returns_what_it_was_given():
    before = softmax_of(10, 3)
    assert ConfidenceMap().apply(before) is before
    assert ConfidenceMap().undo(before) is before


def test_certain_rows_stay_finite():
    certain = np.asarray([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=np.float32)
    for found in (
        ConfidenceMap.learned(50, 0, 3.0).apply(certain),
        shifted(certain, -2.0),
        shifted(certain, 2.0),
    ):
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(found.argmax(axis=1), [0, 2])


def test_contradicted_labels_lower_confidence():
    """A regularised model that does not follow its own labels has seen classes overlap."""
    stated = np.asarray([[0.9, 0.1]], dtype=np.float32)
    confidences = [
        ConfidenceMap.learned(50, wrong, scale=2.0).apply(stated)[0, 0] for wrong in (0, 3, 10, 20)
    ]
    assert confidences == sorted(confidences, reverse=True)
    assert confidences[0] > 0.95


def test_overlapping_classes_are_stated_less_sure_than_separate_ones_and_strategies_see_the_softmax():
    rng = np.random.default_rng(1)

    def blobs(n, spread):
        codes = rng.integers(0, 2, n)
        rows = rng.normal(size=(n, 16)) * spread
        rows[:, 0] += np.where(codes == 1, 3, -3)
        return rows.astype(np.float32), [f"class {code}" for code in codes]

    means = []
    for spread in (0.6, 4.0):
        x, labels = blobs(80, spread)
        pool, truth = blobs(2000, spread)
        plain = EmbeddingClassifier(restated=False).adapt(pool).fit(x, labels)
        restated = EmbeddingClassifier().adapt(pool).fit(x, labels)
        stated = restated.predict_proba(pool)
        right = np.mean(np.asarray(restated.classes_)[stated.argmax(axis=1)] == np.asarray(truth))
        assert abs(float(stated.max(axis=1).mean()) - right) < 0.12
        means.append(float(stated.max(axis=1).mean()))
        below = plain.predict_proba(pool).max(axis=1) < MOST_CONFIDENT
        np.testing.assert_allclose(
            restated.unrestated(stated)[below], plain.predict_proba(pool)[below], atol=2e-3
        )
    assert means[0] > means[1] + 0.05


def test_a_loaded_classifier_states_what_the_saved_one_did():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 8)).astype(np.float32)
    saved = EmbeddingClassifier().adapt(x).fit(x, ["a", "b"] * 20)
    loaded = EmbeddingClassifier().load_state(saved.state())
    np.testing.assert_allclose(loaded.predict_proba(x), saved.predict_proba(x), atol=1e-6)
