"""Classes with one label or none: named, and one label nobody has checked spreads nowhere."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from everylabel.backend.label_studio import webhooks
from everylabel.backend.page.figures import RoundLog, read_figures
from everylabel.backend.rounds.bulk_accept import acceptable
from everylabel.backend.rounds.rare_classes import missing_in_words, rare_classes, single_in_words
from everylabel.model.classifiers.multi_label import MultiLabelClassifier
from everylabel.model.pseudo_labels.threshold import PseudoLabeler
from everylabel.model.session import ActiveLearningSession
from everylabel.scripts.cli import app


def clusters(seed=0, of=30):
    """Two well separated clusters of crops, and a pair of near-duplicates far from both."""
    rng = np.random.default_rng(seed)
    centres = np.eye(8, dtype=np.float32)
    crops = [centres[i] + rng.normal(0, 0.02, (of, 8)) for i in (0, 1)]
    pair = centres[4] + rng.normal(0, 0.001, (6, 8))
    return np.concatenate([*crops, pair]).astype(np.float32)


@pytest.fixture
def session():
    """Twelve labels of two classes, and one of a third among near-duplicates."""
    session = ActiveLearningSession(clusters(), check_share=0.0, pseudo_labeler=PseudoLabeler(0.7, 0.7))
    session.add_labels([*range(6), *range(30, 36), 60], [*"aaaaaabbbbbb", "c"])
    return session


def test_no_pseudo_label_is_of_a_class_with_one_label_and_the_others_stay(session):
    alone = session.run_round()
    assert alone.single_classes == ("c",)
    sure_of_c = alone.probabilities[61:, alone.classes.index("c")]
    assert (sure_of_c > alone.threshold).any(), "near-duplicates look like the one label"
    assert {guess.label for guess in alone.pseudo_labels} == {"a", "b"}
    session.add_labels([61], ["c"])
    checked = session.run_round()
    assert checked.single_classes == ()
    assert {guess.label for guess in checked.pseudo_labels} == {"a", "b", "c"}


def test_of_several_classes_each_is_counted_by_itself():
    session = ActiveLearningSession(
        clusters(),
        classifier=MultiLabelClassifier(),
        check_share=0.0,
        train_on_pseudo_labels=False,
        pseudo_labeler=PseudoLabeler(0.3, 0.3),
    )
    session.add_labels([*range(6), *range(30, 36), 60], [*["a"] * 5, "a + b", *["b"] * 6, "c"])
    found = session.run_round()
    assert found.single_classes == ("c",)
    best = {found.classes[code] for code in found.probabilities[36:].argmax(axis=1)}
    assert any("c" in name for name in best), "some crops look like it"
    assert found.pseudo_labels
    assert not any("c" in guess.label for guess in found.pseudo_labels)


def test_what_was_tried_is_said_with_what_it_rules_out():
    labels = dict.fromkeys(range(1, 40), "a") | {40: "b"}
    rare = rare_classes(labels, ("a", "b", "c"), lambda label: (label,), (1, 2, 3, 99))
    assert (rare.single, rare.missing, rare.n_labels, rare.n_blind) == (("b",), ("c",), 40, 3)
    assert rare.share_below == pytest.approx(1 - 0.05 ** (1 / 3))
    assert single_in_words(rare).startswith("b: a label error cannot be found among single labels")
    assert (
        "; 3 were given to crops sampled at random, so it makes up less than 63% of the crops (95% confidence)"
        in missing_in_words(rare)
    )
    without = rare_classes({1: "a"}, ("a", "c"), lambda label: (label,), ())
    assert without.share_below is None
    assert "sampled at random" not in missing_in_words(without)


def test_a_class_with_one_label_pre_fills_no_crop_and_is_named_everywhere(
    stand_in, services, project, monkeypatch
):
    services.settings.pre_annotated_share = 0.5
    monkeypatch.setattr(PseudoLabeler, "threshold", property(lambda _: 0.3))
    by_class = {name: [task for task, digit in project.items() if digit == name] for name in "012"}
    labelled = [*by_class["0"][:6], *by_class["1"][:6], by_class["2"][0]]
    for task in labelled:
        body = stand_in.annotate(task, project[task])
        services.store.add_event(1, body["action"], webhooks.read(body).kept())
    services.loop.catch_up(1)
    latest = services.store.latest_round(1)
    assert latest.single_classes == ("2",)
    shown = [p["result"] for p in stand_in.predictions if p["model_version"] == latest.model_version]
    filled = [result[0]["value"]["choices"] for result in shown if result]
    assert filled
    assert ["2"] not in filled
    found = services.rounds.run(services.store.project(1), save=False)
    assert any(crop.label is None for crop in found.queue.batch), "what looks like a 2 is left open"
    assert {crop.label for crop in acceptable(services, 1, 0.0, 1000)[0]} <= {"0", "1"}
    figures = read_figures(services.store, RoundLog(), 1, services.store.state(1), trainer_alive=True)
    assert (figures.rare.single, figures.rare.missing) == (("2",), ("3",))
    monkeypatch.setenv("MODEL_DIR", str(services.settings.model_dir))
    monkeypatch.setenv("COLUMNS", "200")
    told = CliRunner().invoke(app, ["status", "--project", "1"]).output
    assert "2: a label error cannot be found among single labels" in told
    assert "3. 13 labels have been given" in told
