"""Pseudo-label rules: chosen by name, or written by oneself."""

import numpy as np
import pytest

from everylabel.model.pseudo_labels import (
    PseudoLabelQuery,
    PseudoLabelRule,
    TrainingPseudoLabels,
    create_rule,
)
from everylabel.model.session import ActiveLearningSession


class FirstFree(PseudoLabelRule):
    """Takes the first three free crops, as the model predicts them."""

    name = "first-free"
    needs_scores = False

    def select(self, query: PseudoLabelQuery) -> TrainingPseudoLabels:
        self.asked = query
        crops = np.flatnonzero(query.free)[:3]
        names = tuple(query.classes[code] for code in query.predict(crops))
        return TrainingPseudoLabels(tuple(crops.tolist()), names, np.full(3, 0.25))


def a_session(**options: object) -> ActiveLearningSession:
    rng = np.random.default_rng(0)
    codes = np.arange(120) % 2
    rows = (rng.standard_normal((120, 8)) + 3 * codes[:, None]).astype(np.float32)
    session = ActiveLearningSession(rows, check_share=0, **options)  # type: ignore[arg-type]
    session.exclude([12])
    session.add_labels(range(12), [str(code) for code in codes[:12]])
    return session


def test_a_rule_of_ones_own_decides_what_is_trained_on():
    rule = FirstFree()
    session = a_session(pseudo_label_rule=rule)
    outcome = session.run_round()
    data = session.get_training_data()
    assert outcome.trained_on_pseudo_labels == 3
    assert np.asarray(data.indices)[data.is_pseudo].tolist() == [13, 14, 15]
    assert np.asarray(data.labels)[data.is_pseudo].tolist() == ["1", "0", "1"]
    assert data.weights[data.is_pseudo].tolist() == [0.25] * 3
    assert rule.asked.labels == session.labels
    assert rule.asked.graph() is not None
    assert len(rule.asked.confident()) > 0


def test_no_rule_is_asked_where_pseudo_labels_are_off_or_labels_too_few():
    for options, labels in (({"train_on_pseudo_labels": False}, 12), ({}, 9)):
        rule = FirstFree()
        session = a_session(pseudo_label_rule=rule, **options)
        session.remove_labels(range(labels, 12))
        assert session.run_round().trained_on_pseudo_labels == 0
        assert not hasattr(rule, "asked")


def test_an_unknown_rule_is_answered_with_those_there_are():
    with pytest.raises(
        ValueError, match=r"pseudo_label_rule must be one of agreement, threshold, got 'bogus'"
    ):
        create_rule("bogus")
