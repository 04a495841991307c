"""Pseudo-labels where a crop may have several classes: each class is taken, weighed and accepted by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from everylabel.model import label_set
from everylabel.model.classifiers.multi_label import MultiLabelClassifier
from everylabel.model.pseudo_labels import AgreementRule, PseudoLabelQuery, TrainingPseudoLabels
from everylabel.model.session import ActiveLearningSession

NAMES = ("crack", "dirt", "fine", "odd")
CRACK, DIRT, FINE, ODD = range(4)


def crops(n=500, *, seed=0, noise=1.6, dirty=0.4, odd=0.0):
    """(n, 40) rows in clusters, one for each set, with their (n, 4) classes; `odd` is given to crops at random."""
    rng = np.random.default_rng(seed)
    centres = 2 * np.random.default_rng(5).standard_normal((4, 40))
    holds = np.zeros((n, 4), dtype=bool)
    holds[:, CRACK] = rng.random(n) < 0.5
    holds[:, DIRT] = rng.random(n) < dirty
    holds[:, FINE] = ~holds.any(axis=1)
    cluster = holds[:, CRACK] + 2 * holds[:, DIRT]
    rows = centres[cluster] + 2 * noise * rng.standard_normal((n, 40))
    holds[:, ODD] = rng.random(n) < odd
    return rows.astype(np.float32), holds


def sets(holds):
    return [label_set.join(np.asarray(NAMES)[row].tolist()) for row in holds]


def a_session(rows, labels, n_labels=30, **options):
    session = ActiveLearningSession(rows, classifier=MultiLabelClassifier(), **options)
    session.add_labels(range(n_labels), labels[:n_labels])
    return session


def used(session):
    """The crops that pseudo-labels were taken of, the classes predicted of them, and the weight of each class."""
    data = session.get_training_data()
    names = sorted({name for label in session.labels.values() for name in label_set.split(label)})
    labels = np.asarray(data.labels)[data.is_pseudo]
    said = np.asarray([[name in label_set.split(label) for name in names] for label in labels])
    return np.asarray(data.indices)[data.is_pseudo], said, data.weights[data.is_pseudo]


def right(session, holds):
    outcome = session.run_round(audit=False)
    predicted = np.asarray(outcome.classes)[outcome.probabilities.argmax(axis=1)]
    return (predicted == np.asarray(sets(holds))).mean()


def test_the_model_gets_better_where_sets_are_clusters():
    found = []
    for seed in range(6):
        rows, holds = crops(seed=seed)
        found += [
            right(a_session(rows, sets(holds), train_on_pseudo_labels=use), holds) for use in (False, True)
        ]
    assert np.mean(np.diff(found)[::2]) > 0.02


def test_crops_come_with_a_weight_for_each_class_and_people_weigh_most():
    rows, holds = crops()
    session = a_session(rows, sets(holds))
    session.set_check_crops(range(40, 60))
    outcome = session.run_round()
    indices, said, weights = used(session)
    assert outcome.trained_on_pseudo_labels == len(indices) > 100
    assert not {*indices.tolist()} & {*session.labels, *session.check_crops}
    assert weights.shape == (len(indices), 3)
    assert ((weights >= 0) & (weights < 1)).all()
    assert (weights.sum(axis=0) <= 1.001 * outcome.n_labels).all()
    assert (weights.max(axis=1) > 0).all()
    agreed = weights > 0
    assert (said == holds[indices][:, :3])[agreed].mean() > 0.9
    assert (session.get_training_data().weights[:30] == 1).all()


def test_a_rare_class_keeps_the_share_that_people_gave_it():
    rows, holds = crops(800, dirty=0.1, noise=1.0)
    session = a_session(rows, sets(holds), 60)
    session.run_round()
    _, said, weights = used(session)
    yes, all_of_it = (weights * said)[:, DIRT].sum(), weights[:, DIRT].sum()
    assert all_of_it > 0
    assert yes / all_of_it == pytest.approx(holds[:60, DIRT].mean(), abs=0.03)


def test_a_class_that_pictures_do_not_show_is_left_out_and_the_others_are_not():
    """Half of the crops are odd at random: its pseudo-labels can only make the loss on held-out labels worse or leave it."""
    taken = np.zeros(4)
    for seed in range(10):
        rows, holds = crops(seed=seed, odd=0.5)
        session = a_session(rows, sets(holds), 40, seed=seed)
        session.run_round(audit=False)
        if session.get_training_data().weights.ndim == 2:
            taken += used(session)[2].any(axis=0)
    assert taken[ODD] <= 6
    assert min(taken[CRACK], taken[DIRT]) >= 7


def test_a_class_without_pseudo_labels_is_fitted_as_without_any():
    rows, holds = crops(odd=0.5)
    labels = sets(holds)
    alone = MultiLabelClassifier().adapt(rows).fit(rows[:40], labels[:40])
    weights = np.ones((200, 4))
    weights[40:, 1:] = 0
    weights[40:, CRACK] = 0.2
    helped = MultiLabelClassifier().adapt(rows).fit(rows[:200], labels[:200], weights)
    before, after = alone.marginals(rows), helped.marginals(rows)
    np.testing.assert_allclose(after[:, 1:], before[:, 1:], atol=1e-6)
    truth = holds[200:, CRACK]
    found, alone_found = after[200:, CRACK] > 0.5, before[200:, CRACK] > 0.5
    assert (found == truth).mean() > (alone_found == truth).mean()


class Contradicted(AgreementRule):
    """Says of the same pseudo-labels that models with them are wrong of every label they have not seen."""

    def select(self, query: PseudoLabelQuery) -> TrainingPseudoLabels:
        found = super().select(query)
        return replace(found, scores=None if found.scores is None else -found.scores)


def test_a_round_is_as_sure_as_scores_that_no_label_had_a_part_in():
    rows, holds = crops()
    sure, less = (
        a_session(rows, sets(holds), 60, pseudo_label_rule=rule).run_round(audit=False)
        for rule in (AgreementRule(), Contradicted())
    )
    assert less.trained_on_pseudo_labels == sure.trained_on_pseudo_labels > 0
    assert less.probabilities.max(axis=1).mean() < 0.9 * sure.probabilities.max(axis=1).mean()


def test_however_many_labels_people_gave_pseudo_labels_say_nothing_of_calibration():
    rows, holds = crops(900)
    labels = sets(holds)
    alone = MultiLabelClassifier().adapt(rows).fit(rows[:600], labels[:600])
    # Pseudo-labels that are all wrong and hardly weigh: whoever asked them would find the heads to be wrong half of the time.
    wrong = [
        label_set.join({"crack", "dirt"} - {*label_set.split(label)} or {"fine"}) for label in labels[600:]
    ]
    weights = np.concatenate([np.ones(600), np.full(300, 1e-6)])
    helped = MultiLabelClassifier().adapt(rows).fit(rows, [*labels[:600], *wrong], weights)
    np.testing.assert_allclose(helped.marginals(rows), alone.marginals(rows), atol=1e-3)


def test_scores_that_labels_contradict_make_a_class_less_sure():
    rows, holds = crops()
    labels = sets(holds)[:60]
    fitted = MultiLabelClassifier().adapt(rows).fit(rows[:60], labels)
    ahead = np.where(holds[:60, :3], 0.8, -0.8)
    sure = np.abs(fitted.calibrate_classes(ahead, labels).marginals(rows) - 0.5).mean(axis=0)
    ahead[:, DIRT] *= -1
    less = np.abs(fitted.calibrate_classes(ahead, labels).marginals(rows) - 0.5).mean(axis=0)
    assert less[DIRT] < 0.7 * sure[DIRT]
    assert less[[CRACK, FINE]] == pytest.approx(sure[[CRACK, FINE]])


def test_label_issues_accuracy_and_stopping_see_no_pseudo_label():
    rows, holds = crops()
    rounds = []
    for use in (False, True):
        session = a_session(rows, sets(holds), 40, train_on_pseudo_labels=use)
        session.set_check_crops(range(0, 40, 4))
        rounds.append(session.run_round())
    without, with_them = rounds
    assert with_them.trained_on_pseudo_labels and not without.trained_on_pseudo_labels
    assert with_them.label_issues == without.label_issues
    assert with_them.check_set == without.check_set
    assert (with_them.predictions, with_them.stopping) == (without.predictions, without.stopping)


@pytest.mark.parametrize("labels", [["crack"] * 20, ["crack", "crack + dirt"] * 10, ["crack", "dirt"] * 10])
def test_classes_that_all_have_and_sets_of_one_are_no_trouble(labels):
    rows, _ = crops()
    session = ActiveLearningSession(rows, classifier=MultiLabelClassifier(), check_share=0)
    session.add_labels(range(20), labels)
    outcome = session.run_round()
    if outcome.probabilities is not None:
        np.testing.assert_allclose(outcome.probabilities.sum(axis=1), 1, atol=1e-5)
