"""The default classifier: a calibrated linear head on frozen embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.classifiers.calibration import averaged_softmax, can_be_judged, posterior_scales
from model.classifiers.ridge import fit_ridge, leave_one_out_scores
from model.pool import Rows, each_chunk, gather, spread
from model.threads import single_threaded

if TYPE_CHECKING:
    from typing_extensions import Self

PENALTIES = np.geomspace(0.03, 10.0, 11)
USUAL_PENALTY = 0.7
# Leave-one-out scores of this many rows say enough about penalty and scale; more would cost seconds.
TUNING_ROWS = 400
CENTRE_SAMPLE = 2000
STANDARD_SPREAD = 1.3
"""Of a standardised column: beside the last layer of the default encoder its middle ones then weigh a half more."""


class EmbeddingClassifier:
    """Class-weighted ridge regression on centred, length-1 embeddings, with calibrated confidence.

    The last `standardized` columns of a row have scales of their own (an encoder's middle layers): each is
    divided by its spread over the pool first.

    Everything is in closed form: the penalty is the one with the least leave-one-out error, and the scale
    that turns scores into probabilities is judged on leave-one-out scores too, so a stated confidence is one
    on rows the model has not seen. Few labels leave the scale open: probabilities are averaged over what
    they leave open (MacKay 1992, "The evidence framework applied to classification networks"), under a prior
    that holds confidence down until the labels support it. With one known class every probability is 1.

    `penalty` fixes the penalty; None leaves it to the data.
    """

    folds = 5

    def __init__(self, *, penalty: float | None = None, standardized: int = 0, seed: int = 0) -> None:
        self.penalty = penalty
        self.standardized = standardized
        self.seed = seed
        self.classes_: tuple[str, ...] = ()
        self._centre: NDArray[Any] | None = None
        self._column_scale: NDArray[Any] = np.ones(1, dtype=np.float32)
        self._weights: NDArray[Any] = np.zeros((0, 0), dtype=np.float32)
        self._bias: NDArray[Any] = np.zeros(0, dtype=np.float32)
        self._scales: NDArray[Any] = np.ones(1, dtype=np.float32)

    def adapt(self, pool: Rows) -> Self:
        """Take the pool's mean embedding, from at most 2,000 rows, as the centre, and the columns' spread."""
        if len(pool):
            self._look_at(_flat(gather(pool, spread(len(pool), CENTRE_SAMPLE))))
        return self

    def fit(self, x: Rows, labels: Sequence[str], sample_weight: NDArray[Any] | None = None) -> Self:
        """Fit on (n, d) embeddings; milliseconds at 100 rows, whatever d is.

        Rows that weigh less than the heaviest are taken for guesses (pseudo-labels): they train the head and
        say nothing about its penalty and its calibration. Raises ValueError on no rows, on rows and labels of different length, and on embeddings that are not
        finite.
        """
        if len(labels) == 0 or len(x) != len(labels):
            raise ValueError(
                f"fit needs one label a row and at least one: got {len(x)} rows, {len(labels)} labels"
            )
        if self._centre is None:
            self._look_at(_flat(x))
        rows = self.features(x)
        if not np.isfinite(rows).all():
            raise ValueError(
                "an embedding is not finite: exclude crops whose image could not be read before fitting"
            )
        names, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        self.classes_ = tuple(str(name) for name in names)
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
        """Judge confidence anew by (n, k) scores of labels that had no part in them."""
        codes = np.searchsorted(self.classes_, list(labels))
        self._scales = posterior_scales(scores, codes, len(self.classes_)).astype(np.float32)
        return self

    def predict_proba(self, x: Rows) -> NDArray[Any]:
        """(n, k) float32, read a chunk of rows at a time: `x` may be a float16 memory map."""
        self._require_fit()
        probabilities = np.empty((len(x), len(self.classes_)), dtype=np.float32)
        # A softmax only knows how far classes are ahead of each other: of the last one that is 0.
        weights = self._weights[:, :-1] - self._weights[:, -1:]
        bias = self._bias[:-1] - self._bias[-1]

        def judge(part: slice, rows: NDArray[Any]) -> None:
            ahead = np.zeros((len(self.classes_), len(rows)), dtype=np.float32)
            self._scores(rows, weights, bias, out=ahead[:-1])
            probabilities[part] = averaged_softmax(ahead.T, self._scales)

        each_chunk(x, judge)
        return probabilities

    def features(self, x: Rows) -> NDArray[Any]:
        """(n, d) float32 embeddings, centred, standardised where told, of length 1 (a row at the centre stays 0)."""
        rows = _flat(x)
        if self._centre is not None:
            rows = (rows - self._centre) * self._column_scale
        return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))

    def scores(self, x: Rows, weights: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
        """What heads say of (n, d) embeddings: `features(x) @ weights + bias`, (n, k) float32, read in chunks."""
        found = np.empty((len(x), weights.shape[1]), dtype=np.float32)

        def score(part: slice, rows: NDArray[Any]) -> None:
            by_head = np.empty((len(bias), len(rows)), dtype=np.float32)
            self._scores(rows, weights, bias, out=by_head)
            found[part] = by_head.T

        each_chunk(x, score)
        return found

    def fresh(self) -> EmbeddingClassifier:
        """An unfitted copy that keeps the centre; each fit chooses its own penalty and scale."""
        copy = EmbeddingClassifier(penalty=self.penalty, standardized=self.standardized, seed=self.seed)
        copy._centre, copy._column_scale = self._centre, self._column_scale
        return copy

    def state(self) -> dict[str, NDArray[Any]]:
        """Arrays `classes`, `centre`, `column_scale`, `weights`, `bias`, `scales`."""
        self._require_fit()
        return {
            "classes": np.asarray(self.classes_, dtype=str),
            "centre": np.asarray(self._centre),
            "column_scale": self._column_scale,
            "weights": self._weights,
            "bias": self._bias,
            "scales": self._scales,
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Predict as the classifier did whose state this is."""
        self.classes_ = tuple(str(name) for name in state["classes"])
        self._centre, self._weights, self._bias = state["centre"], state["weights"], state["bias"]
        one = np.ones(1, dtype=np.float32)
        self._scales = np.asarray(state.get("scales", one))
        self._column_scale = np.asarray(state.get("column_scale", one))
        return self

    def _look_at(self, sample: NDArray[Any]) -> None:
        self._centre = sample.mean(axis=0)
        if self.standardized:
            spread_ = sample[:, -self.standardized :].std(axis=0)
            # A column that hardly moves holds nothing that is worth being blown up.
            floor = max(1e-3 * float(spread_.mean()), 1e-12)
            self._column_scale = np.ones(sample.shape[1], dtype=np.float32)
            self._column_scale[-self.standardized :] = STANDARD_SPREAD / np.maximum(spread_, floor)

    def _scores(
        self, rows: NDArray[Any], weights: NDArray[Any], bias: NDArray[Any], *, out: NDArray[Any]
    ) -> None:
        """Scores of (m, d) rows that may be changed, (k, m): a step along many rows is faster than along few heads.

        They are those of the centred rows, without a pass over the rows to centre them: `(x - c) @ w` is
        `x @ w - c @ w`, and the length squared of `x - c` is `x @ x - 2 * x @ c + c @ c`. So the centre is one
        more column beside the heads, and what is divided by the length has few numbers left.
        """
        # PyTorch goes through memory twice as fast as numpy.
        inside = torch.from_numpy(rows)
        if len(self._column_scale) > 1:
            inside.mul_(torch.from_numpy(self._column_scale))
        square = torch.linalg.vector_norm(inside, dim=1).square_().numpy()
        if self._centre is None:
            np.copyto(out, (rows @ weights).T)
            apart = square
        else:
            centre = self._centre * self._column_scale
            products = rows @ np.hstack([weights, centre[:, None]])
            np.subtract(products[:, :-1].T, (centre @ weights)[:, None], out=out)
            apart = square - 2 * products[:, -1] + centre @ centre
        # Closer to the centre than float16 tells apart there is nothing but rounding.
        out /= np.sqrt(np.maximum(apart, 1e-6 * square + 1e-24))
        out += bias[:, None]

    def _require_fit(self) -> None:
        if not self.classes_:
            raise RuntimeError("this classifier has not been fitted: call fit, or load_state, first")

    def _fit_head(self, rows: NDArray[Any], codes: NDArray[Any], weight: NDArray[Any]) -> None:
        known = np.flatnonzero(weight >= weight.max() * (1 - 1e-9))
        if len(known) > TUNING_ROWS:
            known = np.sort(np.random.default_rng(self.seed).permutation(known)[:TUNING_ROWS])
        k = len(self.classes_)
        penalty, loo = choose_penalty(rows[known], codes[known], k, self.penalty)
        self._scales = posterior_scales(loo, codes[known], k).astype(np.float32)
        weights, bias = fit_ridge(rows, codes, k, weight=balanced(codes, weight), penalty=penalty)
        self._weights, self._bias = weights.astype(np.float32), bias.astype(np.float32)


def choose_penalty(
    x: NDArray[Any], codes: NDArray[Any], n_classes: int, fixed: float | None
) -> tuple[float, NDArray[Any]]:
    """The penalty with the least leave-one-out error, and the leave-one-out scores under it."""
    weight = balanced(codes, np.ones(len(codes)))
    penalties = PENALTIES if fixed is None else np.asarray([fixed])
    scores = leave_one_out_scores(x, codes, n_classes, weight=weight, penalties=penalties)
    judged = can_be_judged(codes)
    if not judged.any():
        nearest = int(np.argmin(np.abs(np.log(penalties / USUAL_PENALTY))))
        return float(penalties[nearest]), scores[nearest]
    target = np.eye(n_classes)[codes]
    error = (weight[judged, None] * (scores - target)[:, judged] ** 2).sum(axis=(1, 2)) / judged.sum()
    # Few labels choose wildly; the prior holds them near what serves most sets.
    loss = 0.5 * judged.sum() * np.log(np.maximum(error, 1e-9)) + np.log(penalties / USUAL_PENALTY) ** 2
    best = int(np.argmin(loss))
    return float(penalties[best]), scores[best]


def _flat(x: Rows) -> NDArray[Any]:
    rows = np.asarray(x, dtype=np.float32)
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def balanced(codes: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """Weights under which every class present weighs the same and all rows together what they weighed."""
    totals = np.bincount(codes, weights=weight)
    present = totals > 0
    totals[~present] = 1.0
    return np.asarray(weight * weight.sum() / (present.sum() * totals[codes]))
