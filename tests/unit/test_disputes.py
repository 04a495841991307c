"""Whose word counts where annotators disagree."""

from __future__ import annotations

import numpy as np

from everylabel.backend.rounds.disagreements import counted_annotations, settle
from everylabel.backend.store import Annotation
from everylabel.model.classifiers.embedding import EmbeddingClassifier

CAREFUL, SECOND, CARELESS = 1, 2, 3


def said(id_, task, person, choice):
    return Annotation(
        id_, task, person, choice, cancelled=False, updated_at=f"2026-01-01T00:00:{id_ % 60:02d}Z"
    )


def crowd():
    """Sixty crops of two kinds; one annotator in three errs every other time, and is always the latest."""
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 2
    pool = (np.random.default_rng(1).standard_normal((2, 32))[codes] + rng.standard_normal((60, 32))).astype(
        "f4"
    )
    truth = {task: "ab"[code] for task, code in enumerate(codes)}
    annotations = []
    for task, right in truth.items():
        wrong = "b" if right == "a" else "a"
        annotations.append(said(len(annotations), task, CAREFUL if task % 3 else SECOND, right))
        annotations.append(said(len(annotations), task, CARELESS, wrong if rng.random() < 0.5 else right))
        if task % 5 == 0:
            annotations.append(said(len(annotations), task, SECOND if task % 3 else CAREFUL, right))
    return annotations, truth, pool


def settled(annotations, pool, classifier=None):
    rows = {task: task for task in range(len(pool))}
    return settle(
        counted_annotations(annotations, ("a", "b")), rows, pool, classifier or EmbeddingClassifier()
    )


def test_the_careful_annotator_is_believed_against_the_careless_one():
    annotations, truth, pool = crowd()
    found = settled(annotations, pool)
    assert len(found) > 20
    right = sum(truth[task] == label for task, label in found.items())
    assert right > 0.9 * len(found)  # the latest word, which ties go to otherwise, is always wrong here


def test_only_disputed_tasks_are_answered():
    annotations, truth, pool = crowd()
    found = settled(annotations, pool)
    for task in truth:
        choices = {a.choice for a in annotations if a.task_id == task}
        assert (task in found) == (len(choices) > 1)


def test_one_person_who_changed_their_mind_is_no_dispute():
    pool = np.eye(4, dtype="f4")
    annotations = [said(0, 0, CAREFUL, "a"), said(1, 1, CAREFUL, "b"), said(2, 0, CAREFUL, "b")]
    assert settled(annotations, pool) == {}


def test_a_crop_without_an_embedding_is_left_to_the_majority():
    annotations = [said(0, 9, CAREFUL, "a"), said(1, 9, CARELESS, "b")]
    assert settled(annotations, np.eye(4, dtype="f4")) == {}
