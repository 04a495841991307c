"""The figures and galleries of the page, from what the store holds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from everylabel.backend.page.figures import RoundLog, read_figures
from everylabel.backend.page.galleries import SHOWN, galleries
from everylabel.backend.page.points import points
from everylabel.backend.rounds.accuracy import accuracy_of
from everylabel.backend.store import Annotation, Annotator, ResolvedDisagreement, RoundRecord
from everylabel.backend.store.pool_map import PoolMap
from everylabel.backend.store.round_snapshot import NO_CLASS, RoundSnapshot, SuspectedLabel
from tests.stand_in_label_studio import label_config


def figures(services, project=1):
    state, alive = services.store.state(project), services.heartbeat.alive()
    return read_figures(services.store, RoundLog(), project, state, trainer_alive=alive)


def record(number, **fields):
    return RoundRecord(
        **{
            "number": number,
            "model_version": f"round {number}",
            "n_labels": number,
            "classes": ("0", "1"),
            "threshold": 0.8,
            "check": (),
            "batch": (),
            "pre_annotated": (),
            "suspected": (),
            "check_set": None,
            "seconds": {"train": 0.1},
            "finished_at": 1000.0 + number,
            "published_at": 1001.0 + number,
        }
        | fields
    )


def a_snapshot(tasks, predicted, confidence, **fields):
    return RoundSnapshot(
        **{
            "number": 1,
            "classes": ("0", "1"),
            "threshold": 0.8,
            "tasks": np.array(tasks),
            "predicted": np.array(predicted, dtype=np.uint16),
            "confidence": np.array(confidence, dtype=np.float32),
            "suspected": (),
        }
        | fields
    )


def a_map(n, near_duplicates=()):
    positions = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    pairs = np.array(near_duplicates, dtype=np.intp).reshape(-1, 2)
    return PoolMap("rows", n, positions, pairs, np.linspace(1, 0.96, len(pairs)))


@pytest.fixture
def known(services, monkeypatch):
    """Project 1, connected, with nothing in it, and a trainer that lives."""
    monkeypatch.setattr(services.heartbeat, "alive", lambda: True)
    services.store.save_project(1, connected=True, label_config=label_config())
    return services


def test_an_empty_project_has_figures_and_says_what_it_waits_for(known):
    found = figures(known)
    assert (found.accuracy, found.model, found.latest, found.forecasts) == (None, None, None, ())
    assert [count.count for count in found.by_class] == [0, 0, 0, 0]
    assert found.status.text == "Waiting for the first crops"


def test_a_project_is_called_what_label_studio_calls_it(services, project):
    assert figures(services).title == "project 1"
    services.store.save_project(2, connected=True)
    assert figures(services, 2).title == "Project 2"


def test_labels_are_counted_by_class_and_by_annotator(known):
    known.store.save_annotations(
        1,
        [
            Annotation(1, 1, 7, "0", False, "2026-01-01"),
            Annotation(2, 2, 7, "0", False, "2026-01-02"),
            Annotation(3, 3, 8, "1", False, "2026-01-03"),
            Annotation(4, 4, None, "1", False, "2026-01-04"),
            Annotation(5, 5, 8, None, True, "2026-01-05"),
        ],
    )
    found = figures(known)
    assert [(count.name, count.count, count.share) for count in found.by_class][:2] == [
        ("0", 2, 1.0),
        ("1", 2, 1.0),
    ]
    assert {count.name: count.count for count in found.by_annotator} == {
        "annotator 7": 2,
        "annotator 8": 1,
        "not known": 1,
    }
    assert (len(found.labels), found.skipped) == (4, 1)


def test_annotators_are_shown_by_name(known):
    known.store.save_annotators(
        [Annotator(7, "Ann Labels", "ann@example.com"), Annotator(8, "", "ben@example.com")]
    )
    known.store.save_annotations(
        1,
        [Annotation(n, n, who, "0", False, f"2026-01-0{n}") for n, who in enumerate((7, 7, 8, 9), start=1)],
    )
    assert {count.name: count.count for count in figures(known).by_annotator} == {
        "Ann Labels": 2,
        "ben@example.com": 1,
        "annotator 9": 1,
    }


def test_classes_with_one_label_or_none_are_named(known):
    known.store.save_annotations(
        1,
        [
            Annotation(1, 1, 7, "0", False, "2026-01-01"),
            Annotation(2, 2, 7, "0", False, "2026-01-02"),
            Annotation(3, 3, 7, "1", False, "2026-01-03"),
        ],
    )
    found = figures(known)
    assert found.rare.single == ("1",)
    assert found.rare.missing == found.classes[2:]


def test_one_class_alone_has_no_model_and_no_accuracy(known):
    known.store.save_annotations(1, [Annotation(1, 1, 7, "0", False, "2026-01-01")])
    known.store.save_round(1, record(1, classes=("0",)), [])
    found = figures(known)
    assert (found.model, found.accuracy) == (None, None)


def test_accuracy_is_the_newest_rounds_and_the_curve_has_all(known):
    for number in range(1, 4):
        check = {"estimate": number / 4, "low": 0.1, "high": 0.9, "n": 3 + number}
        known.store.save_round(1, record(number, check_set=check), [])
    found = figures(known)
    assert found.accuracy.estimate == 0.75
    assert [(a.n_labels, a.n) for a in found.history] == [(2, 5), (3, 6)], "four check crops are no curve"
    assert [r.number for r in found.log] == [3, 2, 1], "the newest round is read first"


def test_labels_that_were_withdrawn_leave_the_curve_too(known):
    for number, n_labels in enumerate((10, 12, 12, 14, 11, 12), start=1):
        check = {"estimate": number / 10, "low": 0.1, "high": 0.9, "n": 6}
        known.store.save_round(1, record(number, n_labels=n_labels, check_set=check), [])
    assert [(a.n_labels, a.number) for a in figures(known).history] == [(10, 1), (11, 5), (12, 6)]


def test_a_check_set_of_one_crop_is_no_learning_curve(known):
    check = {"estimate": 1.0, "low": 0.2, "high": 1.0, "n": 1}
    for number in (10, 20, 40, 80, 160):
        known.store.save_round(1, record(number, check_set=check), [])
    assert figures(known).forecasts == ()


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"problem": "Label Studio refused the token"}, "trouble", "refused the token"),
        ({"connected": False}, "trouble", "everylabel connect --project 1"),
    ],
)
def test_trouble_is_said_first(known, change, kind, text):
    known.store.save_project(1, **change)
    found = figures(known).status
    assert found.kind == kind
    assert text in found.text


def test_a_trainer_that_is_gone_is_said_before_all_else(known, monkeypatch):
    known.store.save_project(1, problem="Label Studio is away")
    monkeypatch.setattr(known.heartbeat, "alive", lambda: False)
    assert "everylabel serve" in figures(known).status.text


def test_labels_that_wait_for_minutes_are_said_to(known, monkeypatch):
    known.store.save_round(1, record(1), [])
    known.store.add_event(1, "ANNOTATION_CREATED", {})
    later = known.clock() + 600
    monkeypatch.setattr(known.store, "_clock", lambda: later)
    found = figures(known).status
    assert found.kind == "trouble"
    assert "everylabel doctor --project 1" in found.text


def test_a_label_that_waits_is_said_to_be_learned_from(known):
    known.store.save_round(1, record(1), [])
    known.store.add_event(1, "ANNOTATION_CREATED", {})
    assert figures(known).status.kind == "busy"


def test_a_label_counts_before_the_trainer_has_looked_at_it(services, stand_in, project, send):
    send(stand_in.annotate(1, "3"))
    send(stand_in.annotate(2, "3"))
    found = figures(services)
    assert (found.state.annotations, found.state.events, len(found.labels)) == (0, 2, 2)
    assert found.by_class[3].count == 2
    assert services.store.annotations(1) == [], "looking stores nothing"
    first = stand_in.tasks[1]["annotations"][0]["id"]
    send(stand_in.webhook("ANNOTATIONS_DELETED", annotations=[{"id": first}]))
    assert set(figures(services).labels) == {2}


def test_a_config_that_cannot_be_read_still_shows_what_was_labelled(known):
    known.store.save_project(1, label_config="<View/>")
    known.store.save_annotations(1, [Annotation(1, 1, 7, "cat", False, "2026-01-01")])
    assert [(count.name, count.count) for count in figures(known).by_class] == [("cat", 1)]


def test_rounds_are_read_once_and_forgotten_with_their_project(known):
    rounds = RoundLog()
    for number in (1, 2):
        known.store.save_round(1, record(number, published_at=None), [])
    assert [r.number for r in rounds.read(known.store, 1, 2)] == [1, 2]
    known.store.mark_published(1, 2)
    known.store.save_round(1, record(3), [])
    found = rounds.read(known.store, 1, 3)
    assert [r.number for r in found] == [1, 2, 3]
    assert found[1].published_at is not None, "the newest known one may have been published since"
    known.store.delete_project(1)
    known.store.save_project(1)
    known.store.save_round(1, record(1), [])
    assert [r.number for r in rounds.read(known.store, 1, 1)] == [1]


def test_galleries_before_anything_is_known_are_empty():
    found = galleries(None, None, None, {}, ())
    assert found.next_batch == found.suspects == found.near_threshold == found.near_duplicates == ()


def test_what_was_labelled_since_the_round_leaves_the_next_batch():
    latest = record(1, check=(1,), batch=(2, 3))
    found = galleries(latest, a_snapshot([1, 2, 3], [0, 0, 1], [0.9, 0.6, 0.7]), None, {2: "0"}, (1,))
    assert [crop.task_id for crop in found.next_batch] == [1, 3]
    blind, asked = found.next_batch
    assert blind.blind
    assert blind.predicted is blind.confidence is None, "a check crop is shown without a guess"
    assert (asked.predicted, round(asked.confidence, 2)) == ("1", 0.7)


def test_a_corrected_label_is_no_suspect_any_more():
    snapshot = a_snapshot(
        [1, 2],
        [0, 0],
        [0.9, 0.9],
        suspected=(SuspectedLabel(1, "1", "0", 0.1), SuspectedLabel(2, "1", "0", 0.2)),
    )
    found = galleries(None, snapshot, None, {1: "1", 2: "0"}, ())
    assert [(s.task_id, s.given, s.suggested, round(s.error_probability, 2)) for s in found.suspects] == [
        (1, "1", "0", 0.9)
    ]


def test_a_suspected_label_that_annotators_disagree_on_is_shown(known):
    said = enumerate(("0", "1", "1"), start=1)
    known.store.save_annotations(
        1, [Annotation(n, 1, n, choice, False, f"2026-01-0{n}") for n, choice in said]
    )
    careful = ResolvedDisagreement("0", {"1": "0", "2": "1", "3": "1"})
    known.store.save_round(1, record(1), [], {1: careful})
    found = figures(known)
    assert found.labels == {1: "0"}, "a round has weighed the annotators"
    snapshot = a_snapshot([1], [1], [0.9], suspected=(SuspectedLabel(1, "0", "1", 0.1),))
    (suspect,) = galleries(None, snapshot, None, found.labels, ()).suspects
    assert (suspect.given, suspect.suggested) == ("0", "1")


def test_pseudo_labels_near_the_threshold_come_from_both_sides_of_it():
    confidence = np.linspace(0.5, 1, 101)
    snapshot = a_snapshot(np.arange(1, 102), np.zeros(101), confidence)
    found = galleries(None, snapshot, None, {61: "0"}, (62,)).near_threshold
    assert len(found) == SHOWN
    assert all(one.confidence > other.confidence for one, other in pairwise(found))
    assert sum(crop.confidence >= 0.8 for crop in found) == SHOWN // 2
    assert not {61, 62} & {crop.task_id for crop in found}, "neither labelled nor blind"


def test_a_crop_nobody_is_asked_for_again_is_neither_next_nor_near_the_threshold():
    snapshot = a_snapshot([1, 2, 3], [0, 0, 1], [0.9, 0.7, 0.79])
    found = galleries(record(1, batch=(1, 2, 3)), snapshot, None, {}, (), {1, 3})
    assert [crop.task_id for crop in found.next_batch] == [2]
    assert [crop.task_id for crop in found.near_threshold] == [2]


def test_near_duplicates_that_are_labelled_differently_come_first():
    snapshot = a_snapshot([1, 2, 3, 4, 0], [0, 0, 1, 1, 0], [0.9] * 5)
    pool_map = a_map(5, near_duplicates=[(0, 1), (2, 3), (0, 4)])
    found = galleries(None, snapshot, pool_map, {3: "0", 4: "1"}, ()).near_duplicates
    assert [tuple(crop.task_id for crop in pair.crops) for pair in found] == [(3, 4), (1, 2)]
    assert [pair.disagree for pair in found] == [True, False]


def test_before_there_is_a_model_no_gallery_needs_one():
    snapshot = a_snapshot([1, 2], [NO_CLASS, NO_CLASS], [0, 0])
    found = galleries(record(1, batch=(1,)), snapshot, a_map(2), {}, ())
    assert found.next_batch[0].predicted is None
    assert found.near_threshold == ()


def test_the_map_keeps_its_proportions():
    pool_map = a_map(50)
    sent = points(a_snapshot(np.arange(1, 51), np.zeros(50), np.ones(50)), pool_map)
    x, y = np.frombuffer(sent, "<u2", 100, 8 + 400).reshape(2, 50).astype(float)
    assert max(np.ptp(x), np.ptp(y)) == 65535
    wanted = np.ptp(pool_map.positions[:, 0]) / np.ptp(pool_map.positions[:, 1])
    assert np.ptp(x) / np.ptp(y) == pytest.approx(wanted, rel=0.001)


def test_accuracy_of_a_round_without_check_labels_is_not_known():
    assert accuracy_of(record(1)) is None
