"""Several classes on one crop: sets in, sets out, through the same session."""

from __future__ import annotations

import numpy as np
import pytest

from everylabel.backend.label_studio.label_config import LabelConfigError, parse
from everylabel.backend.rounds.labels import resolve_labels
from everylabel.backend.store import Annotation
from everylabel.model import label_set
from everylabel.model.classifiers.multi_label import MultiLabelClassifier
from everylabel.model.session import ActiveLearningSession

CONFIG = (
    '<View><Image name="i" value="$image"/><Choices name="seen" toName="i" choice="multiple">'
    '<Choice value="dirt"/><Choice value="crack"/><Choice value="fine"/></Choices></View>'
)


def crops(n, seed=0):
    """(n, 24) rows in which two directions say `crack` and `dirt`, and their label sets."""
    rng = np.random.default_rng(seed)
    cracked, dirty = rng.random(n) < 0.5, rng.random(n) < 0.4
    rows = rng.normal(size=(n, 24)) * 0.35
    rows[:, 0] += np.where(cracked, 1.0, -1.0)
    rows[:, 1] += np.where(dirty, 1.0, -1.0)
    sets = [
        label_set.join([name for name, holds in (("crack", c), ("dirt", d)) if holds] or ["fine"])
        for c, d in zip(cracked, dirty, strict=True)
    ]
    return rows.astype(np.float32), sets


def test_a_set_is_the_same_label_in_whatever_order_it_was_ticked():
    control = parse(CONFIG)
    assert control.multiple
    ticked = control.result("crack")
    ticked[0]["value"]["choices"] = ["dirt", "crack"]
    assert control.choice(ticked) == "crack + dirt"
    assert control.result("crack + dirt", 0.8)[0]["value"]["choices"] == ["crack", "dirt"]
    ticked[0]["value"]["choices"] = []
    assert control.choice(ticked) is None
    assert control.knows("crack + dirt")
    assert not control.knows("crack + gone")


@pytest.mark.parametrize("name", ["crack + dirt", "ER +", "+ ER", "+"])
def test_a_class_that_a_set_could_not_be_split_at_is_refused(name):
    with pytest.raises(LabelConfigError, match="no class may hold it"):
        parse(CONFIG.replace('value="fine"', f'value="{name}"'))


@pytest.mark.parametrize("name", ["ER+", "C++", "+1"])
def test_a_plus_within_a_word_is_no_separator(name):
    control = parse(CONFIG.replace('value="fine"', f'value="{name}"'))
    assert {*control.names(label_set.join([name, "crack"]))} == {name, "crack"}


def test_where_one_class_holds_such_a_name_is_just_a_name():
    single = CONFIG.replace(' choice="multiple"', "").replace('value="fine"', 'value="salt + pepper"')
    control = parse(single)
    picked = control.result("salt + pepper")
    assert picked[0]["value"]["choices"] == ["salt + pepper"]
    assert control.choice(picked) == "salt + pepper"


def test_a_set_with_a_class_that_left_the_config_is_no_label():
    annotations = [
        Annotation(1, 1, 1, "crack + dirt", False, "2026-01-01"),
        Annotation(2, 2, 1, "crack + gone", False, "2026-01-02"),
    ]
    assert resolve_labels(annotations, parse(CONFIG).classes, {}) == {1: "crack + dirt"}


def test_it_learns_sets_and_says_how_confident_it_is():
    rows, sets = crops(400)
    fitted = MultiLabelClassifier().adapt(rows).fit(rows[:80], sets[:80])
    assert fitted.names_ == ("crack", "dirt", "fine")
    p = fitted.predict_proba(rows[80:])
    assert p.shape == (320, len(fitted.classes_))
    assert p.sum(axis=1) == pytest.approx(np.ones(320), abs=1e-5)
    guessed = np.asarray(fitted.classes_)[p.argmax(axis=1)]
    assert (guessed == np.asarray(sets[80:])).mean() > 0.9
    assert fitted.marginals(rows[80:]).shape == (320, 3)


def test_a_set_nobody_has_given_can_be_found():
    rows, sets = crops(400)
    apart = [i for i in range(200) if sets[i] != "crack + dirt"]
    fitted = MultiLabelClassifier().adapt(rows).fit(rows[apart], [sets[i] for i in apart])
    assert "crack + dirt" in fitted.classes_
    both = [i for i in range(400) if sets[i] == "crack + dirt"]
    guessed = np.asarray(fitted.classes_)[fitted.predict_proba(rows[both]).argmax(axis=1)]
    assert (guessed == "crack + dirt").mean() > 0.5


def test_what_is_stored_predicts_the_same():
    rows, sets = crops(120)
    fitted = MultiLabelClassifier().adapt(rows).fit(rows[:60], sets[:60])
    restored = MultiLabelClassifier().load_state(fitted.state())
    assert restored.classes_ == fitted.classes_
    assert restored.predict_proba(rows) == pytest.approx(fitted.predict_proba(rows), abs=1e-5)
    assert restored.features(rows[:3]) == pytest.approx(fitted.features(rows[:3]), abs=1e-6)


def test_a_class_everybody_has_given_and_one_known_set_are_no_trouble():
    rows, _ = crops(20)
    one = MultiLabelClassifier().fit(rows, ["crack"] * 20)
    assert one.classes_ == ("crack",)
    assert one.predict_proba(rows).tolist() == [[1.0]] * 20
    always = MultiLabelClassifier().fit(rows, ["crack", "crack + dirt"] * 10)
    assert set(always.classes_) == {"crack", "crack + dirt"}
    with pytest.raises(ValueError, match="one label a row"):
        MultiLabelClassifier().fit(rows, [])
    with pytest.raises(RuntimeError, match="not been fitted"):
        MultiLabelClassifier().predict_proba(rows)


def test_a_session_asks_learns_pseudo_labels_and_audits_with_sets():
    rows, sets = crops(300)
    session = ActiveLearningSession(rows, classifier=MultiLabelClassifier(), batch_size=5, seed=1)
    for _ in range(12):
        found = session.run_round()
        asked = [*found.check, *found.batch]
        session.add_labels(asked, [sets[index] for index in asked])
    wrong = next(index for index in session.labels if sets[index] == "fine")
    session.add_labels([wrong], ["crack + dirt"])
    found = session.run_round()
    guessed = {guess.index: guess.label for guess in found.pseudo_labels}
    assert len(guessed) > 50
    assert np.mean([sets[index] == label for index, label in guessed.items()]) > 0.95
    assert wrong in {issue.index for issue in found.label_issues}
    assert found.check_set is not None
