"""A project begins with an earlier model, and its labels decide how far that is believed."""

import numpy as np
import pytest

from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.classifiers.multi_label import MultiLabelClassifier
from everylabel.model.earlier_model import CHANCE, ENOUGH, MOST_LABELS, NOTHING_LABELLED, OUTVOTED, compare
from everylabel.model.session import ActiveLearningSession

NAMES = ("apple", "birch", "cedar", "dogwood")
CENTRES = np.random.default_rng(8).standard_normal((4, 32)).astype(np.float32)


def crops(n, seed, noise=2.5):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % 4)
    x = CENTRES[codes] + noise * rng.standard_normal((n, 32)).astype(np.float32)
    return x.astype(np.float16), np.asarray(NAMES)[codes]


@pytest.fixture(scope="module")
def pool():
    return crops(300, seed=1)


def model_of(names, seed=2):
    x, labels = crops(200, seed)
    moved = dict(zip(NAMES, names, strict=True))
    return EmbeddingClassifier().fit(x, [moved[label] for label in labels])


@pytest.fixture(scope="module")
def earlier():
    return model_of(NAMES)


@pytest.fixture(scope="module")
def wrong():
    """Of the same crops, and every class is called like the next."""
    return model_of((*NAMES[1:], NAMES[0]))


def labelled(pool, earlier, n, **options):
    x, truth = pool
    session = ActiveLearningSession(x, earlier=earlier, **options)
    found = session.run_round()
    while found.n_labels < n:
        asked = [*found.check, *found.batch][: n - found.n_labels]
        session.add_labels(asked, truth[asked].tolist())
        found = session.run_round()
    return session, found


def right(found, session, truth):
    free = np.setdiff1d(np.arange(len(truth)), [*session.labels])
    return float((np.asarray(found.classes)[found.probabilities[free].argmax(axis=1)] == truth[free]).mean())


def test_before_any_label_the_earlier_model_answers_alone(pool, earlier):
    session, found = labelled(pool, earlier, 0)
    assert found.earlier.share == 1
    assert found.earlier.reason == NOTHING_LABELLED
    assert found.classes == NAMES
    assert np.array_equal(found.probabilities, earlier.predict_proba(pool[0]))
    assert session.classifier is earlier
    assert len(found.pseudo_labels) > 0
    assert found.accuracy is None  # nothing has measured it


def test_the_first_crops_are_those_that_would_be_asked_for_without_it(pool, earlier, wrong):
    _, none = labelled(pool, None, 0)
    for model in (earlier, wrong):
        assert labelled(pool, model, 0)[1].batch == none.batch


def test_with_a_few_labels_it_still_helps(pool, earlier):
    session, found = labelled(pool, earlier, 5)
    alone, without = labelled(pool, None, 5)
    assert 0 < found.earlier.share < 1
    assert right(found, session, pool[1]) > right(without, alone, pool[1]) + 0.1


def test_a_model_of_another_task_is_switched_off_and_has_harmed_nothing(pool, wrong):
    session, found = labelled(pool, wrong, ENOUGH)
    alone, without = labelled(pool, None, ENOUGH)
    assert found.earlier.share == 0
    assert found.earlier.reason == CHANCE
    assert session.labels == alone.labels
    assert np.array_equal(found.probabilities, without.probabilities)
    assert (found.batch, found.check, found.pseudo_labels) == (
        without.batch,
        without.check,
        without.pseudo_labels,
    )
    assert (found.accuracy, found.check_set) == (without.accuracy, without.check_set)


def test_labels_of_one_class_are_no_model_and_can_contradict_the_earlier_one(pool, earlier):
    x, truth = pool
    apples = np.flatnonzero(truth == "apple")[:15]
    for n in (3, 15):  # where a class is rare, many labels may be of one
        found, _ = compare(EmbeddingClassifier(), earlier, x[apples[:n]], ["apple"] * n)
        assert found.share == 1
        found, _ = compare(EmbeddingClassifier(), earlier, x[apples[:n]], ["cedar"] * n)
        assert found.share == 0


def test_five_hundred_labels_outvote_every_earlier_model(pool, earlier):
    x, truth = crops(MOST_LABELS, seed=3)
    found, comparison = compare(EmbeddingClassifier(), earlier, x, truth.tolist())
    assert (found.share, found.reason, comparison) == (0.0, OUTVOTED, None)


def test_the_share_falls_as_the_project_learns_what_the_earlier_model_does_not_know():
    """An earlier model that is half right, beside a project of easy classes."""
    x, truth = crops(300, seed=4, noise=0.7)
    half = model_of((NAMES[0], NAMES[1], NAMES[3], NAMES[2]))
    shares = [
        compare(EmbeddingClassifier(), half, x[:n], truth[:n].tolist())[0].share for n in (0, 12, 40, 120)
    ]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0


def test_classes_that_only_one_side_knows_can_be_predicted(pool):
    x, truth = pool
    known = truth != "dogwood"
    three = EmbeddingClassifier().fit(x[known][:150], truth[known][:150].tolist())
    new = np.where(truth == "apple", "ash", truth)
    session = ActiveLearningSession(x, earlier=three)
    session.add_labels(range(40), new[:40].tolist())
    found = session.run_round()
    assert set(found.classes) == {"apple", "ash", "birch", "cedar", "dogwood"} or found.earlier.share == 0
    assert {"ash", "dogwood"} <= set(found.classes)
    assert np.allclose(found.probabilities.sum(axis=1), 1, atol=1e-4)


def test_the_stated_accuracy_is_of_what_answers(pool, earlier):
    session, found = labelled(pool, earlier, 40, check_share=0.25)
    assert found.earlier.share > 0
    assert found.check_set.n == 10
    true = right(found, session, pool[1])
    assert found.accuracy.low <= true <= found.accuracy.high


def test_a_check_crop_has_no_part_in_the_share_it_is_predicted_with(pool, earlier):
    """Were its own label used, turning it would change its own prediction."""
    x, truth = pool
    labels = truth[:20].tolist()
    _, comparison = compare(EmbeddingClassifier(), earlier, x[:20], labels)
    folds = np.full(20, -1)
    folds[:10] = np.arange(10) % 5
    turned = labels.copy()
    turned[0] = "cedar" if labels[0] != "cedar" else "apple"
    _, other = compare(EmbeddingClassifier(), earlier, x[:20], turned)
    own = np.full((20, 4), 0.25, dtype=np.float32)
    used = np.arange(20) >= 10
    assert comparison.mix(own, folds)[10:].tolist() == own[10:].tolist()
    assert other.classes == comparison.classes
    assert comparison.share(used).share > 0


def test_the_same_labels_give_the_same_round(pool, earlier):
    x, truth = pool
    rounds = []
    for order in (range(30), reversed(range(30))):
        session = ActiveLearningSession(x, earlier=earlier)
        for index in order:
            session.add_labels([index], [truth[index]])
        rounds.append(session.run_round())
    one, other = rounds
    assert one.earlier == other.earlier
    assert np.array_equal(one.probabilities, other.probabilities)
    assert one.batch == other.batch


def test_a_project_of_several_classes_a_crop_begins_with_a_model_too():
    def several(n, seed):
        x, names = crops(n, seed)
        dirt = np.random.default_rng(seed).random(n) < 0.4
        x = x.astype(np.float32) + np.outer(dirt, 3 * np.eye(32)[0] + np.ones(32))
        return x.astype(np.float16), [
            f"{name} + dirt" if d else str(name) for name, d in zip(names, dirt, strict=True)
        ]

    x, labels = several(240, 5)
    theirs = several(240, 6)
    earlier = MultiLabelClassifier().adapt(theirs[0]).fit(*theirs)
    session = ActiveLearningSession(x, classifier=MultiLabelClassifier(), earlier=earlier)
    assert session.run_round().earlier.share == 1
    session.add_labels(range(20), labels[:20])
    found = session.run_round()
    assert found.earlier.share > 0
    alone = ActiveLearningSession(x, classifier=MultiLabelClassifier())
    alone.add_labels(range(20), labels[:20])
    without = alone.run_round()
    mine, other = (np.asarray(one.classes)[one.probabilities[20:].argmax(axis=1)] for one in (found, without))
    truth = np.asarray(labels[20:])
    assert (mine == truth).mean() > (other == truth).mean()
