"""Labels that look wrong: a short ranked list for a person to review, never an automatic fix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cleanlab.rank import get_self_confidence_for_each_label
from numpy.typing import NDArray

from everylabel.model.classifiers.base import Classifier
from everylabel.model.classifiers.calibration import averaged_softmax, posterior_scales
from everylabel.model.classifiers.class_weights import balanced
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.classifiers.ridge import leave_one_out_scores
from everylabel.model.label_quality.folds import out_of_fold_probabilities, stratified_folds
from everylabel.model.pool import Rows
from everylabel.model.threads import single_threaded

AUDIT_PENALTY = 1.0
# Labels left out together: leaving each out in closed form costs the cube of their number.
LEFT_OUT_TOGETHER = 600
# What is known before looking, as if 80 labels had been checked and 8 found wrong.
PRIOR_WRONG, PRIOR_LABELS = 8.0, 80.0


@dataclass(frozen=True)
class LabelIssue:
    """A label that models which had not seen it disagree with."""

    index: int
    given_label: str
    suggested_label: str
    score: float
    """How probable it is that the given label is right; the lower, the more suspicious."""


@dataclass(frozen=True)
class LabelAudit:
    """How probable each label is to be wrong, and the short list that a person should review."""

    wrong: NDArray[Any]
    """(n,) how probable it is that each label is wrong; 0 where it cannot be checked."""
    expected_errors: float
    issues: tuple[LabelIssue, ...]
    """Most suspicious first, about as many as there are errors expected."""


def detect_label_errors(
    x: Rows,
    labels: Sequence[object],
    *,
    classifier: Classifier | None = None,
    smoothed: NDArray[Any] | None = None,
    seed: int = 0,
) -> list[LabelIssue]:
    """List the labels that look wrong, most suspicious first: the issues of `audit_labels`."""
    return list(audit_labels(x, labels, classifier=classifier, smoothed=smoothed, seed=seed).issues)


def audit_labels(
    x: Rows,
    labels: Sequence[object],
    *,
    classifier: Classifier | None = None,
    smoothed: NDArray[Any] | None = None,
    seed: int = 0,
) -> LabelAudit:
    """Audit every label by models that have not seen it.

    With a classifier in closed form (the default) each label is left out exactly. Other classifiers are
    cross-validated. The probabilities are made here, because in-sample ones find nothing.

    Args:
        x: (n, ...) rows of the labelled crops.
        labels: their n class names; `index` of an issue is a position in both.
        classifier: what is trained, already adapted to the pool; by default an `EmbeddingClassifier`.
        smoothed: (n, d) features averaged over the crops' neighbours in the pool (`PoolGraph.smoothed`): a second
            view, which does not depend on which crops were chosen.
        seed: deals the labels into folds.

    Returns:
        The audit. A class with one example cannot be checked and is left out; with fewer than two classes left
        there are no issues.

    Raises:
        ValueError: rows and labels do not pair up.
    """
    names = np.asarray([str(label) for label in labels], dtype=object)
    if len(x) != len(names):
        raise ValueError(f"one label a row is needed: got {len(x)} rows and {len(names)} labels")
    classes = np.unique(names.astype(str))
    if len(classes) < 2:
        return LabelAudit(np.zeros(len(names)), 0.0, ())
    probabilities = predict_out_of_sample(
        x, names, list(classes), classifier=classifier, smoothed=smoothed, seed=seed
    )
    return rank_labels(names, probabilities, list(classes))


def predict_out_of_sample(
    x: Rows,
    labels: Sequence[str] | NDArray[Any],
    classes: Sequence[str],
    *,
    classifier: Classifier | None = None,
    smoothed: NDArray[Any] | None = None,
    seed: int = 0,
) -> NDArray[Any]:
    """Predict every crop by models that have not seen its label: (n, k), columns as in `classes`, two or more."""
    position = {name: column for column, name in enumerate(classes)}
    codes = np.asarray([position[str(label)] for label in labels], dtype=np.intp)
    if classifier is None:
        classifier = EmbeddingClassifier(seed=seed).adapt(x)
    if classifier.closed_form:
        views = [classifier.features(x)] + ([] if smoothed is None else [smoothed])
        return _leave_one_out(views, codes, len(classes), seed)
    folds = stratified_folds(codes, classifier.folds, seed)
    return out_of_fold_probabilities(classifier, x, [str(label) for label in labels], classes, folds)


def rank_labels(
    labels: Sequence[str] | NDArray[Any], out_of_sample: NDArray[Any], classes: Sequence[str]
) -> LabelAudit:
    """Weigh what (n, k) out-of-sample probabilities say of each label against how rare errors are.

    Ranked by cleanlab's self-confidence. A share of the labels, estimated by expectation maximisation under a
    prior of one in ten, is taken to come from the other classes. The expected number of errors is the length of
    the list; the counts of confident learning (Northcutt et al. 2021, 1911.00068) are two to three times the true
    number on sets where a right label is often a surprise, as it is where crops were chosen for being uncertain.
    """
    position = {str(name): column for column, name in enumerate(classes)}
    codes = np.array([position[str(label)] for label in labels], dtype=np.intp)
    wrong = np.zeros(len(codes))
    counts = np.bincount(codes, minlength=len(classes))
    kept = np.flatnonzero(counts > 1)
    if len(kept) < 2:
        return LabelAudit(wrong, 0.0, ())
    rows = np.flatnonzero(counts[codes] > 1)
    given = np.searchsorted(kept, codes[rows])
    probabilities = out_of_sample[np.ix_(rows, kept)].astype(np.float64) + 1e-6
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    self_confidence = get_self_confidence_for_each_label(given, probabilities)
    wrong[rows] = _probably_wrong(self_confidence, len(kept))
    expected = float(wrong.sum())
    length = max(round(expected), int((wrong > 0.5).sum()))
    suggested = probabilities.argmax(axis=1)
    listed = np.argsort(-wrong[rows], kind="stable")[:length]
    issues = tuple(
        LabelIssue(
            index=int(rows[row]),
            given_label=str(classes[kept[given[row]]]),
            suggested_label=str(classes[kept[suggested[row]]]),
            score=float(1 - wrong[rows[row]]),
        )
        for row in listed
        if suggested[row] != given[row]
    )
    return LabelAudit(wrong, expected, issues)


def _probably_wrong(self_confidence: NDArray[Any], n_classes: int) -> NDArray[Any]:
    """Return the posterior of each label being wrong, under the share of wrong labels that explains all best."""
    elsewhere = (1 - self_confidence) / (n_classes - 1)
    share = PRIOR_WRONG / PRIOR_LABELS
    wrong = np.zeros_like(self_confidence)
    for _ in range(50):
        flipped = share * elsewhere
        wrong = flipped / (flipped + (1 - share) * self_confidence)
        share = (wrong.sum() + PRIOR_WRONG) / (len(wrong) + PRIOR_LABELS)
    return wrong


def _leave_one_out(
    views: Sequence[NDArray[Any]], codes: NDArray[Any], n_classes: int, seed: int
) -> NDArray[Any]:
    """Return calibrated probabilities of every row from all others, the views' scores averaged: (n, k)."""
    groups = math.ceil(len(codes) / LEFT_OUT_TOGETHER)
    group = stratified_folds(codes, groups, seed)
    probabilities = np.zeros((len(codes), n_classes))
    for number in range(groups):
        rows = np.flatnonzero(group == number)
        # Between class-balanced and equal weights: full balance lets a flipped label of a rare class speak
        # for the class.
        weight = np.sqrt(balanced(codes[rows], np.ones(len(rows))))
        with single_threaded():
            scores = np.mean(
                [
                    leave_one_out_scores(
                        view[rows], codes[rows], n_classes, weight=weight, penalties=[AUDIT_PENALTY]
                    )[0]
                    for view in views
                ],
                axis=0,
            )
        scales = posterior_scales(scores, codes[rows], n_classes)
        probabilities[rows] = averaged_softmax(scores, scales)
    return probabilities
