"""What the default strategy decides, and that it is worth having."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.query import DEFAULT, Query, create
from everylabel.scripts.replay.replay import Task, replay


def blobs(n: int = 40, groups: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(groups), n)
    features = np.eye(groups, 16)[group] + rng.standard_normal((n * groups, 16)) * 0.05
    return features.astype(np.float32), group


def a_query(features, labeled, labels, probabilities=None, seed=0) -> Query:
    labeled = np.asarray(labeled, dtype=np.intp)
    candidates = np.setdiff1d(np.arange(len(features)), labeled)
    return Query(features, candidates, labeled, np.asarray(labels, dtype=np.intp), probabilities, seed)


def test_auto_is_the_default():
    assert DEFAULT == "auto"


def test_the_first_batch_has_a_crop_of_every_group():
    features, group = blobs()
    chosen = create("auto").select(a_query(features, [], []), 5)
    assert sorted(group[chosen]) == [0, 1, 2, 3, 4]


def test_five_picks_are_the_same_at_once_or_one_by_one():
    """A live project runs a round after every label, a replay after every batch."""
    features, _ = blobs()
    at_once = create("auto").select(a_query(features, [], []), 5)
    one_by_one: list[int] = []
    for _ in range(5):
        one_by_one += create("auto").select(a_query(features, one_by_one, [0] * len(one_by_one)), 1)
    assert at_once == one_by_one


def test_while_one_class_is_known_it_also_looks_among_outliers():
    features, _ = blobs(groups=3)
    features = np.concatenate([features, np.full((1, 16), 3.0, dtype=np.float32)])
    query = a_query(features, np.arange(0, 60, 10), [0] * 6)
    assert 120 in create("auto").select(query, 2)


def test_of_two_alike_it_takes_the_uncertain_one():
    features, group = blobs()
    probabilities = np.tile(np.array([0.99, 0.01], dtype=np.float32), (200, 1))
    probabilities[group == 3] = [0.55, 0.45]
    query = a_query(features, [0, 1, 2, 40, 41], [0, 0, 0, 1, 1], probabilities)
    assert group[create("auto").select(query, 1)[0]] == 3


def test_where_classes_are_imbalanced_the_uncertain_come_first():
    """Forty shirts and one coat: the next coat is among the uncertain, not in the largest group."""
    features, _ = blobs()
    probabilities = np.tile(np.array([0.6, 0.4], dtype=np.float32), (200, 1))
    alone = 199
    probabilities[alone] = [0.55, 0.45]
    features[alone] = 0.0
    features[alone, 10] = 1.0
    level = a_query(features, [*range(0, 160, 20), *range(1, 161, 20)], [0] * 8 + [1] * 8, probabilities)
    crowded = a_query(features, level.labeled, [0] * 15 + [1], probabilities)
    assert create("auto").select(level, 1) != [alone]
    assert create("auto").select(crowded, 1) == [alone]


def test_crops_the_model_tells_apart_do_not_stand_for_each_other():
    """All look alike to the encoder; once trusted, the model says which half holds no label."""
    features = np.ones((100, 8), dtype=np.float32)
    probabilities = np.zeros((100, 2), dtype=np.float32)
    probabilities[:50] = [0.7, 0.3]
    probabilities[50:] = [0.3, 0.7]
    query = a_query(features, range(40), [0, 1] * 20, probabilities)
    assert create("auto").select(query, 1)[0] >= 50


def test_its_own_uncertainty_weighs_more_as_labels_come():
    """A certain crop amid uncertain ones is asked for early on; with many labels a uncertain one is."""
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((60, 4)) * 0.3).astype(np.float32)
    features[0] = 0.0  # in the middle of all
    probabilities = np.tile(np.array([0.7, 0.3], dtype=np.float32), (60, 1))
    probabilities[0] = [0.85, 0.15]
    query = a_query(features, [58, 59], [0, 1], probabilities)
    assert create("auto", cold_start=2, labels_to_trust=1000).select(query, 1) == [0]
    assert create("auto", cold_start=2, labels_to_trust=0).select(query, 1) != [0]


def test_a_thousandfold_pool_is_sampled_by_the_seed():
    features = np.random.default_rng(0).standard_normal((5000, 8)).astype(np.float32)
    query = a_query(features, [0, 1], [0, 1], np.full((5000, 2), 0.5, dtype=np.float32))
    first, again = (create("auto").select(query, 5) for _ in range(2))
    other = create("auto").select(replace(query, seed=1), 5)
    assert first == again != other


@pytest.mark.parametrize(("digits", "least"), [((0, 1, 2, 3, 4, 5, 6, 7, 8, 9), 0.04), ((3, 8), 0.005)])
def test_it_beats_random_by_a_clear_margin(digits, least):
    """Digits as scikit-learn ships them, eight seeds: mean balanced accuracy over 5 to 40 labels."""
    bunch = load_digits()
    kept = np.flatnonzero(np.isin(bunch.target, digits))[:600]
    rows, labels = bunch.data[kept].astype(np.float32), tuple(bunch.target[kept].astype(str))

    def mean_accuracy(strategy: str) -> np.ndarray:
        curves = [
            replay(Task(labels=labels, strategy=strategy, seed=seed, budget=40), rows, EmbeddingClassifier)
            for seed in range(8)
        ]
        return np.array([np.mean(curve.accuracy) for curve in curves])

    gain = mean_accuracy("auto") - mean_accuracy("random")
    assert gain.mean() > least
    assert (gain > 0).sum() >= 6


def test_a_large_batch_is_not_confined_to_the_references():
    """Where no crop resembles another, a batch of 200 is the 200 most uncertain of all 1,500."""
    features = np.eye(1502, dtype=np.float32)
    top = np.random.default_rng(0).permutation(np.linspace(0.5, 0.9, 1502)).astype(np.float32)
    query = a_query(features, [0, 1], [0, 1], np.stack([top, 1 - top], axis=1))
    chosen = create("auto", cold_start=2).select(query, 200)
    most_uncertain = query.candidates[np.argsort(top[query.candidates])[:200]]
    assert len(set(chosen) & set(most_uncertain.tolist())) > 190
