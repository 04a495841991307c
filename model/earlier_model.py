"""How far the model of an earlier project is believed: by the labels of this one, which outvote it.

Its probabilities p are mixed with those of the project's own model, `share * p_earlier + (1 - share) * p_own`. The share is
the most probable one of a few, given how both predict the labels of people: the earlier model has never seen them, and
the own one is trained without the fold it predicts. A prior for the earlier model is worth a few labels, whatever their
number, so that it counts for less the more there are; and without a gain on the labels the share is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.classifiers.base import Classifier
from everylabel.model.classifiers.blended import union
from everylabel.model.classifiers.calibration import can_be_left_out
from everylabel.model.label_quality.folds import (
    align_columns,
    out_of_fold_probabilities,
    stratified_folds,
)

SHARES = np.asarray([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])
"""The shares tried beside an own model; without one the earlier model answers alone, or not at all."""
PRIOR = 3.0
"""What the prior weighs: it is worth about so many labels that only the earlier model predicts right."""
ENOUGH = 10
"""From so many labels of two classes on, an earlier model that is no better than chance on them has no say, and crops are chosen by both models.

Fewer have hardly tested it: on digits, one that was wrong cost 23 points at 10 labels where it chose the first crops, and
one that was right gained nothing by it."""
MOST_LABELS = 500
"""From so many labels on, the own model answers alone: comparing would cost more than an earlier model can add."""
_FLOOR = 0.02
"""What every prediction leaves to chance: one crop must not decide."""

NOTHING_LABELLED = "nothing is labelled yet"
NO_OWN_MODEL = "the labels so far are no model of their own"
HELPS = "the labels are predicted better with it"
HELPS_NOT = "the labels are predicted no better with it"
CHANCE = "on the labels it is no better than chance"
OUTVOTED = f"there are {MOST_LABELS} labels and more"


@dataclass(frozen=True)
class EarlierShare:
    """How much an earlier model has to say in a round, and why."""

    share: float
    """0: nothing; 1: it answers alone, for there is no own model yet."""
    reason: str


class Comparison:
    """Both models' predictions of the labels of people: the earlier one's, and out of fold the own one's.

    Args:
        own: the project's classifier, of which fresh copies are trained.
        earlier: the earlier classifier.
        x: (n, ...) labelled rows.
        labels: their n class names.
        seed: deals the labels into folds.
    """

    def __init__(
        self, own: Classifier, earlier: Classifier, x: NDArray[Any], labels: Sequence[str], seed: int
    ) -> None:
        self.classes = union(labels, earlier.classes_)
        codes = np.searchsorted(self.classes, list(labels))
        self._earlier = align_columns(earlier.predict_proba(x), earlier.classes_, self.classes)
        chance: NDArray[Any] = np.full(
            (len(labels), len(self.classes)), 1 / len(self.classes), dtype=np.float32
        )
        found, self._has_own = chance, len(set(labels)) > 1
        if self._has_own:
            folds = stratified_folds(codes, own.folds, seed)
            found = out_of_fold_probabilities(own, x, labels, self.classes, folds)
            # A class with one label is missing from the model that predicts it: that says nothing of the own model.
            alone = ~can_be_left_out(codes)
            found[alone] = chance[alone]
        rows = np.arange(len(labels))
        self._codes = codes
        self._of_earlier, self._of_own = (
            (1 - _FLOOR) * found[rows, codes].astype(np.float64) + _FLOOR / len(self.classes)
            for found in (self._earlier, found)
        )

    def share(self, used: NDArray[Any] | None = None) -> EarlierShare:
        """Return the share by all labels, or by those that `used`, (n,) bool, says."""
        used = np.ones(len(self._codes), dtype=bool) if used is None else used
        earlier, own = self._of_earlier[used], self._of_own[used]
        if self._has_own and len(earlier) >= ENOUGH and np.log(earlier).sum() <= self._log_chance(used):
            return EarlierShare(0.0, CHANCE)
        likelihood = np.log(SHARES[:, None] * earlier + (1 - SHARES[:, None]) * own).sum(axis=1)
        posterior = likelihood + PRIOR * np.log((1 + SHARES) / 2)
        best = int(np.argmax(posterior))
        if not self._has_own:
            return EarlierShare(float(best > 0), NO_OWN_MODEL if best else HELPS_NOT)
        if likelihood[best] <= likelihood[0]:
            best = 0
        return EarlierShare(float(SHARES[best]), HELPS if best else HELPS_NOT)

    def mix(self, own: NDArray[Any], folds: NDArray[Any]) -> NDArray[Any]:
        """Mix out-of-fold predictions with the earlier model's, each fold by the share that its labels had no part in.

        Args:
            own: (n, k) probabilities of the own model, columns as in `classes`.
            folds: (n,) fold numbers; -1 for rows that are not predicted.
        """
        found = own.copy()
        for fold in np.unique(folds[folds >= 0]):
            there = folds == fold
            share = self.share(~there).share
            found[there] = share * self._earlier[there] + (1 - share) * own[there]
        return found

    def _log_chance(self, used: NDArray[Any]) -> float:
        """Return the log likelihood of the labels by how many others are of their class."""
        codes, k = self._codes[used], len(self.classes)
        others = np.bincount(codes, minlength=k)[codes] - 1
        return float(np.log((others + 1) / (len(codes) - 1 + k)).sum())


def compare(
    own: Classifier, earlier: Classifier, x: NDArray[Any], labels: Sequence[str], seed: int = 0
) -> tuple[EarlierShare, Comparison | None]:
    """Return the share of an earlier model in a round, and the comparison behind it where there was one.

    Args:
        own: the project's classifier.
        earlier: the earlier classifier.
        x: (n, ...) labelled rows.
        labels: their n class names.
        seed: deals the labels into folds.
    """
    if not labels:
        return EarlierShare(1.0, NOTHING_LABELLED), None
    if len(labels) >= MOST_LABELS:
        return EarlierShare(0.0, OUTVOTED), None
    found = Comparison(own, earlier, x, labels, seed)
    return found.share(), found
