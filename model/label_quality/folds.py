"""Out-of-sample probabilities: every labelled row predicted by a model that has not seen its label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.classifiers.base import Classifier
from everylabel.model.pool import Rows


def stratified_folds(codes: NDArray[Any], n_folds: int, seed: int = 0) -> NDArray[Any]:
    """Deal rows into folds, each class spread as evenly as it goes: (n,) fold numbers.

    Unlike scikit-learn's `StratifiedKFold` it takes classes smaller than the number of folds, the normal case
    with few labels: a class with two rows or more is never whole in one fold.
    """
    rng = np.random.default_rng(seed)
    folds = np.empty(len(codes), dtype=np.intp)
    dealt = 0
    for code in np.unique(codes):
        rows = rng.permutation(np.flatnonzero(codes == code))
        folds[rows] = (dealt + np.arange(len(rows))) % n_folds
        dealt += len(rows)
    return folds


def align_columns(probabilities: NDArray[Any], have: Sequence[str], want: Sequence[str]) -> NDArray[Any]:
    """Move columns by class name: (n, len(have)) to (n, len(want)); a class not in `have` gets 0."""
    aligned = np.zeros((len(probabilities), len(want)), dtype=np.float32)
    position = {name: column for column, name in enumerate(want)}
    for column, name in enumerate(have):
        if name in position:
            aligned[:, position[name]] = probabilities[:, column]
    return aligned


def out_of_fold_probabilities(
    classifier: Classifier,
    x: Rows,
    labels: Sequence[str],
    classes: Sequence[str],
    folds: NDArray[Any],
    *,
    sample_weight: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Predict each row by `classifier.fresh()` fitted on the rows of the other folds.

    Args:
        classifier: what is fitted, on a fresh copy for each fold.
        x: (n, ...) rows.
        labels: their n class names.
        classes: the columns of the answer.
        folds: (n,) fold numbers; a row with fold -1 is trained on every time and never predicted.
        sample_weight: (n,) weights of the rows in training.

    Returns:
        (n, len(classes)) float32; rows with fold -1 are 0.
    """
    names = np.asarray(labels, dtype=object)
    found = np.zeros((len(names), len(classes)), dtype=np.float32)
    for fold in np.unique(folds[folds >= 0]):
        test, train = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        if not len(train):
            continue
        weight = None if sample_weight is None else sample_weight[train]
        fitted = classifier.fresh().fit(x[train], list(names[train]), weight)
        found[test] = align_columns(fitted.predict_proba(x[test]), fitted.classes_, classes)
    return found
