"""The default classifier: a calibrated linear head on frozen embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.classifiers.base import Classifier, require_labelled_rows
from everylabel.model.classifiers.calibration import (
    add_averaged_softmax,
    averaged_softmax,
    can_be_left_out,
    posterior_scales,
)
from everylabel.model.classifiers.class_weights import balanced
from everylabel.model.classifiers.confidence import ConfidenceMap
from everylabel.model.classifiers.embedding_space import EmbeddingSpace
from everylabel.model.classifiers.ridge import fit_ridge, leave_one_out_scores
from everylabel.model.pool import Rows, each_chunk
from everylabel.model.threads import single_threaded

if TYPE_CHECKING:
    from typing_extensions import Self

    from everylabel.model.onnx_graph import Graph

PENALTIES = np.geomspace(0.03, 10.0, 11)
USUAL_PENALTY = 0.7
# Leave-one-out scores of this many rows say enough about penalty and scale; more would cost seconds.
TUNING_ROWS = 400
NOT_FINITE = "an embedding is not finite: exclude crops whose image could not be read before fitting"


class EmbeddingClassifier(Classifier):
    """Class-weighted ridge regression on centred, length-1 embeddings, with calibrated confidence.

    Everything is in closed form: the penalty is the one with the least leave-one-out error, and the scale
    that turns scores into probabilities is fitted to leave-one-out scores too, so a stated confidence is one
    on rows the model has not seen. Few labels leave the scale open: probabilities are averaged over what
    they leave open (MacKay 1992, "The evidence framework applied to classification networks"), under a prior
    that holds confidence down until the labels support it. The probability of the best class is then restated as
    how often such a prediction was right in replays (`ConfidenceMap`). With one known class every probability is 1.

    Args:
        penalty: fixes the penalty; None leaves it to the data.
        standardized: how many of a row's last columns have scales of their own, as in `EmbeddingSpace`.
        restated: whether the probability of the best class is restated; without it, it is the softmax's.
        seed: picks the rows that penalty and scale are chosen by, where there are very many.
    """

    folds = 5
    closed_form = True
    space: EmbeddingSpace

    def __init__(
        self,
        *,
        penalty: float | None = None,
        standardized: int = 0,
        restated: bool = True,
        seed: int = 0,
    ) -> None:
        self.penalty = penalty
        self.restated = restated
        self.seed = seed
        self.space = EmbeddingSpace(standardized=standardized)
        self._weights: NDArray[Any] = np.zeros((0, 0), dtype=np.float32)
        self._bias: NDArray[Any] = np.zeros(0, dtype=np.float32)
        self._scales: NDArray[Any] = np.ones(1, dtype=np.float32)
        self._confidence = ConfidenceMap()
        self._labels = 0, 0
        """How many labels of people the last fit had, and how many of them it contradicts."""

    @property
    def standardized(self) -> int:
        """How many of a row's last columns have scales of their own."""
        return self.space.standardized

    @property
    def evidence(self) -> tuple[int, int, float]:
        """The labels of the last fit, how many of them it contradicts, and the scale: for `ConfidenceMap.learned`."""
        return *self._labels, float(self._scales[len(self._scales) // 2])

    def adapt(self, pool: Rows) -> Self:
        """Take the pool's mean embedding as the centre, and the columns' spread."""
        self.space.adapt(pool)
        return self

    def fit(self, x: Rows, labels: Sequence[str], sample_weight: NDArray[Any] | None = None) -> Self:
        """Fit on (n, d) embeddings; milliseconds at 100 rows, whatever d is.

        Rows that weigh less than the heaviest are taken for pseudo-labels: they train the head and say nothing
        about its penalty and its calibration.

        Raises:
            ValueError: there are no rows, rows and labels differ in number, or an embedding is not finite.
        """
        require_labelled_rows(x, labels)
        if not self.space.has_centre:
            self.space.centre_on(x)
        rows = self.features(x)
        if not np.isfinite(rows).all():
            raise ValueError(NOT_FINITE)
        names, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        self.classes_ = tuple(str(name) for name in names)
        self._confidence = ConfidenceMap()
        if len(names) == 1:
            self._weights = np.zeros((rows.shape[1], 1), dtype=np.float32)
            self._bias = np.zeros(1, dtype=np.float32)
            self._scales = np.ones(1, dtype=np.float32)
            return self
        weight = np.ones(len(codes)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        with single_threaded():
            self._fit_head(rows, codes, weight)
        return self

    def calibrate(self, scores: NDArray[Any], labels: Sequence[str]) -> Self:
        """Fit the stated confidence anew to (n, k) scores of labels that had no part in them."""
        codes = np.searchsorted(self.classes_, list(labels))
        self._set_scales(posterior_scales(scores, codes, len(self.classes_)))
        return self

    def unrestated(self, probabilities: NDArray[Any]) -> NDArray[Any]:
        """Return (n, k) probabilities as the softmax stated them."""
        return self._confidence.undo(probabilities)

    def predict_proba(self, x: Rows) -> NDArray[Any]:
        """Return (n, k) float32 probabilities; rows are read in chunks, so `x` may be a float16 memory map."""
        self._require_fit()
        probabilities = np.empty((len(x), len(self.classes_)), dtype=np.float32)
        # A softmax only knows how far classes are ahead of each other: of the last one that is 0.
        weights = self._weights[:, :-1] - self._weights[:, -1:]
        bias = self._bias[:-1] - self._bias[-1]

        def predict(part: slice, rows: NDArray[Any]) -> None:
            ahead = np.zeros((len(self.classes_), len(rows)), dtype=np.float32)
            self.space.score_chunk(rows, weights, bias, out=ahead[:-1])
            probabilities[part] = self._confidence.apply(averaged_softmax(ahead.T, self._scales))

        each_chunk(x, predict)
        return probabilities

    def add_to_graph(self, graph: Graph, rows: str, dim: int) -> str:
        """Add the head, its calibration and the restated confidence to an ONNX graph."""
        del dim  # the head knows it
        self._require_fit()
        scores = self.space.add_to_graph(graph, rows, self._weights, self._bias)
        probabilities = add_averaged_softmax(graph, scores, self._scales)
        return self._confidence.add_to_graph(graph, probabilities, len(self.classes_))

    def features(self, x: Rows) -> NDArray[Any]:
        """Return (n, d) float32 embeddings, centred, standardised where told, of length 1."""
        return self.space.features(x)

    def fresh(self) -> Self:
        """Return an unfitted copy that keeps the centre; each fit chooses its own penalty and scale."""
        copy = type(self)(penalty=self.penalty, restated=self.restated, seed=self.seed)
        copy.space = self.space.copy()
        return copy

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays `classes`, `centre`, `column_scale`, `weights`, `bias`, `scales`, `confidence`."""
        self._require_fit()
        return {
            "classes": np.asarray(self.classes_, dtype=str),
            **self.space.state(),
            "weights": self._weights,
            "bias": self._bias,
            "scales": self._scales,
            "confidence": np.asarray(astuple(self._confidence)),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Predict as the classifier did whose state this is."""
        self.classes_ = tuple(str(name) for name in state["classes"])
        self.space.load_state(state)
        self._weights, self._bias = state["weights"], state["bias"]
        self._scales = np.asarray(state.get("scales", np.ones(1, dtype=np.float32)))
        self._confidence = ConfidenceMap(*np.asarray(state.get("confidence", (0.0, 1.0, 0.0))).tolist())
        return self

    def _fit_head(self, rows: NDArray[Any], codes: NDArray[Any], weight: NDArray[Any]) -> None:
        of_people = known = np.flatnonzero(weight >= weight.max() * (1 - 1e-9))
        if len(known) > TUNING_ROWS:
            known = np.sort(np.random.default_rng(self.seed).permutation(known)[:TUNING_ROWS])
        k = len(self.classes_)
        penalty, loo = choose_penalty(rows[known], codes[known], k, self.penalty)
        scales = posterior_scales(loo, codes[known], k)
        weights, bias = fit_ridge(rows, codes, k, weight=balanced(codes, weight), penalty=penalty)
        self._weights, self._bias = weights.astype(np.float32), bias.astype(np.float32)
        predicted = (rows[of_people] @ self._weights + self._bias).argmax(axis=1)
        self._labels = len(of_people), int((predicted != codes[of_people]).sum())
        self._set_scales(scales)

    def _set_scales(self, scales: NDArray[Any]) -> None:
        self._scales = scales.astype(np.float32)
        if self.restated:
            self._confidence = ConfidenceMap.learned(*self.evidence)


def choose_penalty(
    x: NDArray[Any], codes: NDArray[Any], n_classes: int, fixed: float | None
) -> tuple[float, NDArray[Any]]:
    """Choose the penalty with the least leave-one-out error.

    Args:
        x: (n, d) features of length 1.
        codes: (n,) class codes.
        n_classes: k.
        fixed: the penalty to use instead of choosing one.

    Returns:
        The penalty, and the (n, k) leave-one-out scores under it.
    """
    weight = balanced(codes, np.ones(len(codes)))
    penalties = PENALTIES if fixed is None else np.asarray([fixed])
    scores = leave_one_out_scores(x, codes, n_classes, weight=weight, penalties=penalties)
    usable = can_be_left_out(codes)
    if not usable.any():
        nearest = int(np.argmin(np.abs(np.log(penalties / USUAL_PENALTY))))
        return float(penalties[nearest]), scores[nearest]
    target = np.eye(n_classes)[codes]
    error = (weight[usable, None] * (scores - target)[:, usable] ** 2).sum(axis=(1, 2)) / usable.sum()
    # Few labels choose wildly; the prior holds them near what serves most sets.
    loss = 0.5 * usable.sum() * np.log(np.maximum(error, 1e-9)) + np.log(penalties / USUAL_PENALTY) ** 2
    best = int(np.argmin(loss))
    return float(penalties[best]), scores[best]
