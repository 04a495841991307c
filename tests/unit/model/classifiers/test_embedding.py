import time

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.label_quality.folds import align_columns, out_of_fold_probabilities, stratified_folds


def blobs(n: int, n_classes: int = 3, d: int = 64, noise: float = 1.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((n_classes, d))
    codes = rng.integers(n_classes, size=n)
    x = (centres[codes] + rng.standard_normal((n, d)) * noise + 5).astype(np.float16)
    return x, [f"class {code}" for code in codes]


def accuracy(classifier, x, labels) -> float:
    predicted = np.asarray(classifier.classes_)[classifier.predict_proba(x).argmax(axis=1)]
    return float((predicted == np.asarray(labels)).mean())


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_it_learns_classes_by_name_from_few_labels(n_classes):
    x, labels = blobs(60, n_classes)
    test_x, test_labels = blobs(500, n_classes, seed=1)
    classifier = EmbeddingClassifier().adapt(test_x).fit(x, labels)
    assert classifier.classes_ == tuple(sorted(set(labels)))
    assert accuracy(classifier, test_x, test_labels) > 0.9


def test_probabilities_are_float32_rows_that_sum_to_one():
    x, labels = blobs(40)
    probabilities = EmbeddingClassifier().fit(x, labels).predict_proba(x)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (40, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_the_order_of_classes_comes_from_their_names_not_from_who_came_first():
    x, labels = blobs(40)
    back = np.arange(40)[::-1]
    one = EmbeddingClassifier().adapt(x).fit(x, labels)
    other = EmbeddingClassifier().adapt(x).fit(x[back], [labels[i] for i in back])
    assert one.classes_ == other.classes_
    np.testing.assert_allclose(one.predict_proba(x), other.predict_proba(x), atol=0.2)


def test_one_known_class_is_certain_instead_of_a_crash():
    x, _ = blobs(5)
    classifier = EmbeddingClassifier().fit(x, ["cat"] * 5)
    assert classifier.classes_ == ("cat",)
    assert (classifier.predict_proba(x) == 1).all()


def test_a_single_label_and_a_single_row_to_predict():
    x, _ = blobs(3)
    assert EmbeddingClassifier().fit(x[:1], ["cat"]).predict_proba(x[:1]).shape == (1, 1)
    assert EmbeddingClassifier().fit(x[:2], ["cat", "dog"]).predict_proba(x[:1]).shape == (1, 2)


def test_a_rare_class_is_not_drowned():
    x, labels = blobs(400, 2, noise=2.0)
    names = np.asarray(labels)
    kept = np.concatenate([np.flatnonzero(names == "class 0")[:90], np.flatnonzero(names == "class 1")[:6]])
    classifier = EmbeddingClassifier().adapt(x).fit(x[kept], list(names[kept]))
    test_x, test_labels = blobs(1000, 2, noise=2.0, seed=7)
    test_names = np.asarray(test_labels)
    predicted = np.asarray(classifier.classes_)[classifier.predict_proba(test_x).argmax(axis=1)]
    rare = test_names == "class 1"
    assert (predicted[rare] == "class 1").mean() > 0.7


def test_a_stated_confidence_is_kept_on_crops_it_has_not_seen():
    """In-sample, 100 labels in 64 dimensions separate perfectly; stated confidence must not believe that."""
    x, labels = blobs(120, 3, noise=3.5)
    test_x, test_labels = blobs(3000, 3, noise=3.5, seed=3)
    classifier = EmbeddingClassifier().adapt(test_x).fit(x, labels)
    confidence = classifier.predict_proba(test_x).max(axis=1)
    right = accuracy(classifier, test_x, test_labels)
    assert abs(confidence.mean() - right) < 0.08


@pytest.mark.parametrize("n", [10, 25, 50])
@pytest.mark.parametrize("noise", [2.0, 3.5])
def test_what_it_states_at_nine_tenths_is_right_nine_times_in_ten_from_few_labels(n, noise):
    """Ten labels separate any two classes in 64 dimensions: confidence has to wait for evidence."""
    stated, right = 0, 0
    test_x, test_labels = blobs(500, 2, noise=noise, seed=3)
    for seed in range(40):
        x, labels = blobs(n, 2, noise=noise, seed=100 + seed)
        if len(set(labels)) < 2:
            continue
        classifier = EmbeddingClassifier().adapt(test_x).fit(x, labels)
        probabilities = classifier.predict_proba(test_x)
        sure = probabilities.max(axis=1) >= 0.9
        guesses = np.asarray(classifier.classes_)[probabilities.argmax(axis=1)]
        stated += int(sure.sum())
        right += int((guesses == np.asarray(test_labels))[sure].sum())
    assert right >= 0.9 * stated
    assert stated > 0 or n < 50 or noise > 2


def test_more_labels_earn_more_confidence():
    test_x, _ = blobs(300, 3, noise=0.5, seed=3)
    means = []
    for n in (9, 30, 120):
        x, labels = blobs(n, 3, noise=0.5, seed=5)
        means.append(
            EmbeddingClassifier().adapt(test_x).fit(x, labels).predict_proba(test_x).max(axis=1).mean()
        )
    assert means == sorted(means)
    assert means[-1] > 0.9


def test_pseudo_labels_train_it_but_do_not_make_it_more_confident():
    """Pseudo-labels agree with the model that made them: they are no evidence of how right it is."""
    x, labels = blobs(60, 2, noise=3.5)
    pool, _ = blobs(400, 2, noise=3.5, seed=2)
    alone = EmbeddingClassifier().adapt(pool).fit(x, labels)
    guesses = np.asarray(alone.classes_)[alone.predict_proba(pool).argmax(axis=1)]
    weight = np.concatenate([np.ones(60), np.full(400, 60 / 400)])
    both = alone.fresh().fit(np.concatenate([x, pool]), [*labels, *guesses], weight)
    np.testing.assert_array_equal(both.state()["scales"], alone.state()["scales"])
    assert not np.allclose(both.state()["weights"], alone.state()["weights"])


def test_a_pool_row_at_the_centre_stays_finite():
    x, labels = blobs(20)
    classifier = EmbeddingClassifier().adapt(np.zeros((4, 64), dtype=np.float16)).fit(x, labels)
    assert np.isfinite(classifier.predict_proba(np.zeros((2, 64), dtype=np.float16))).all()


@pytest.mark.parametrize("standardized", [0, 20])
def test_a_pool_far_from_the_origin_is_classified_by_what_is_left_of_it_around_its_centre(standardized):
    x, labels = blobs(3000)
    far = (x.astype(np.float32) + 100).astype(np.float16)
    classifier = EmbeddingClassifier(standardized=standardized, restated=False).adapt(far)
    classifier.fit(far[:80], labels[:80])
    state = classifier.state()
    own = classifier.features(far).astype(np.float64) @ state["weights"] + state["bias"]
    exponents = np.exp((own - own.max(axis=1, keepdims=True))[None] * state["scales"][:, None, None])
    low, middle, high = exponents / exponents.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(classifier.predict_proba(far), (low + 4 * middle + high) / 6, atol=1e-3)


def test_weights_of_zero_take_rows_out():
    x, labels = blobs(40, 2, noise=0.3)
    wrong = [*labels, *(["class 1" if label == "class 0" else "class 0" for label in labels])]
    weight = np.concatenate([np.ones(40), np.full(40, 1e-9)])
    classifier = EmbeddingClassifier(penalty=0.01).fit(np.concatenate([x, x]), wrong, weight)
    assert accuracy(classifier, x, labels) == 1.0


def test_saved_arrays_predict_the_same_and_need_no_pickle(tmp_path):
    x, labels = blobs(30)
    fitted = EmbeddingClassifier().adapt(x).fit(x, labels)
    np.savez(tmp_path / "model.npz", **fitted.state())
    with np.load(tmp_path / "model.npz", allow_pickle=False) as state:
        loaded = EmbeddingClassifier().load_state(dict(state))
    assert loaded.classes_ == fitted.classes_
    np.testing.assert_array_equal(loaded.predict_proba(x), fitted.predict_proba(x))


def test_unusable_input_is_named():
    x, labels = blobs(10)
    with pytest.raises(ValueError, match="10 rows, 9 labels"):
        EmbeddingClassifier().fit(x, labels[:9])
    with pytest.raises(ValueError, match="not finite"):
        EmbeddingClassifier().fit(np.full((2, 4), np.nan), ["a", "b"])
    with pytest.raises(RuntimeError, match="not been fitted"):
        EmbeddingClassifier().predict_proba(x)


def test_a_hundred_labels_fit_at_the_price_of_a_few_decompositions():
    """Compare both in one run: a busy machine or an older library slows both."""
    x, labels = blobs(100, 10, d=1280)
    gram = np.asarray(x @ x.T, dtype=np.float64)
    spent, decomposing = [], []
    for _ in range(5):
        start = time.process_time()
        EmbeddingClassifier().fit(x, labels)
        fitted = time.process_time()
        for _ in range(100):
            np.linalg.eigh(gram)
        spent.append(fitted - start)
        decomposing.append(time.process_time() - fitted)
    assert min(spent) < min(decomposing), "not a hundred: it is solved in closed form"


def test_a_pool_is_read_in_chunks():
    class Chunked:
        def __init__(self, rows):
            self.rows, self.shape, self.most = rows, rows.shape, 0

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, key):
            found = self.rows[key]
            self.most = max(self.most, len(found))
            return found

    x, labels = blobs(20_000, d=4)
    pool = Chunked(x)
    classifier = EmbeddingClassifier().adapt(pool).fit(x[:50], labels[:50])
    assert classifier.predict_proba(pool).shape == (20_000, 3)
    assert pool.most <= 4096


@pytest.mark.parametrize("standardized", [0, 20])
@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_probabilities_are_those_of_the_plain_formula_however_many_rows_there_are(standardized, k, dtype):
    x, labels = blobs(30_000, k)
    x = (x * np.linspace(0.1, 5, 64)).astype(dtype)
    classifier = EmbeddingClassifier(standardized=standardized, restated=False).adapt(x)
    classifier.fit(x[:80], labels[:80])
    state = classifier.state()
    rows = x.astype(np.float64) - state["centre"]
    rows *= state["column_scale"]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    logits = (rows @ state["weights"] + state["bias"])[None] * state["scales"][:, None, None]
    exponents = np.exp(logits - logits.max(axis=2, keepdims=True))
    low, middle, high = exponents / exponents.sum(axis=2, keepdims=True)
    found = classifier.predict_proba(x)
    np.testing.assert_allclose(found, (low + 4 * middle + high) / 6, atol=2e-5)
    some = np.array([0, 17, 4096, 29_999])
    np.testing.assert_allclose(classifier.predict_proba(x[some]), found[some], atol=1e-6)


def test_the_same_rows_get_the_same_probabilities_again_on_one_core_or_two(monkeypatch):
    x, labels = blobs(30_000)
    classifier = EmbeddingClassifier().adapt(x).fit(x[:50], labels[:50])
    first = classifier.predict_proba(x)
    assert np.array_equal(classifier.predict_proba(x), first)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert np.array_equal(classifier.predict_proba(x), first)


class TestFolds:
    def test_a_class_with_two_rows_is_never_whole_in_one_fold(self):
        codes = np.array([0] * 20 + [1, 1] + [2, 2, 2] + [3])
        for seed in range(20):
            folds = stratified_folds(codes, 5, seed)
            assert all(len(np.unique(folds[codes == code])) > 1 for code in (0, 1, 2))

    def test_folds_are_of_equal_size(self):
        sizes = np.bincount(stratified_folds(np.repeat(np.arange(7), 3), 5))
        assert sizes.max() - sizes.min() <= 1

    def test_columns_follow_names(self):
        aligned = align_columns(np.array([[0.2, 0.8]]), ["b", "d"], ["a", "b", "c", "d"])
        np.testing.assert_allclose(aligned, [[0, 0.2, 0, 0.8]])

    def test_a_row_is_predicted_by_a_model_that_has_not_seen_it(self):
        """Random labels: in-sample they look learned, out of fold they are right by chance."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((100, 200)).astype(np.float32)
        codes = rng.integers(2, size=100)
        labels = [str(code) for code in codes]
        classifier = EmbeddingClassifier(penalty=0.01)
        assert accuracy(classifier.fresh().fit(x, labels), x, labels) > 0.95
        folds = stratified_folds(codes, 5)
        predicted = out_of_fold_probabilities(classifier, x, labels, ["0", "1"], folds).argmax(axis=1)
        assert 0.3 < (predicted == codes).mean() < 0.7


def test_the_scale_of_a_standardised_column_says_nothing():
    """Channels of an encoder's middle layers differ in scale by more than in what they know."""
    x, labels = blobs(20, 2)
    x = x.astype(np.float32)
    rescaled = x.copy()
    rescaled[:, -8:] *= np.geomspace(0.1, 10, 8)
    plain, standard = EmbeddingClassifier(), EmbeddingClassifier(standardized=8)
    assert not np.allclose(plain.adapt(x).features(x), plain.adapt(rescaled).features(rescaled), atol=1e-3)
    expected = standard.adapt(x).features(x)
    np.testing.assert_allclose(standard.adapt(rescaled).features(rescaled), expected, atol=1e-4)
    fitted = standard.fit(rescaled, labels)
    again = EmbeddingClassifier().load_state(fitted.state())
    np.testing.assert_array_equal(again.predict_proba(rescaled), fitted.predict_proba(rescaled))


def test_a_standardised_column_that_never_moves_stays_out_of_it():
    x, labels = blobs(20, 2)
    x[:, -1] = 7.0
    fitted = EmbeddingClassifier(standardized=4).adapt(x).fit(x, labels)
    assert np.isfinite(fitted.features(x)).all()
    assert np.abs(fitted.features(x)[:, -1]).max() == 0


def test_a_pool_is_scored_to_the_same_bit_by_any_number_of_threads():
    x = np.random.default_rng(0).normal(size=(4000, 1888)).astype(np.float16)
    classifier = EmbeddingClassifier().adapt(x).fit(x[:60], [str(n % 10) for n in range(60)])
    scored = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            scored.append(classifier.predict_proba(x).tobytes())
    assert scored[0] == scored[1] == scored[2]
