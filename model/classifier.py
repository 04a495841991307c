"""What a session trains every round, and the default: a calibrated linear head on frozen embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.folds import stratified_folds
from model.logistic import fit_softmax, log_loss, softmax
from model.pool import Rows, chunks, spread
from model.threads import single_threaded

if TYPE_CHECKING:
    from typing_extensions import Self

# Inverse regularisation strengths tried on rows of length 1; the first is the one used before anything can be
# tuned.
STRENGTHS = (100.0, 10.0, 1.0)
TEMPERATURES = np.geomspace(0.1, 10.0, 41)
TUNING_FOLDS = 5
CENTRE_SAMPLE = 2000


class Classifier(Protocol):
    """Pool rows in, class probabilities out. Classes are names, never positions."""

    classes_: tuple[str, ...]
    """Sorted names of the classes of the last fit; empty before."""
    folds: int
    """How many refits a cross-validation may spend: many where a fit costs milliseconds."""

    def adapt(self, pool: Rows) -> Self:
        """Learn what needs no labels (such as the pool's centre) from a sample of the pool."""

    def fit(self, x: Rows, labels: Sequence[str], sample_weight: NDArray[Any] | None = None) -> Self:
        """Train on (n, ...) rows and their n class names."""

    def predict_proba(self, x: Rows) -> NDArray[Any]:
        """(n, k) float32 probabilities, columns as in `classes_`; every row sums to 1."""

    def features(self, x: Rows) -> NDArray[Any]:
        """(n, d) float32 features of a few rows, also before any fit: what query strategies compare."""

    def fresh(self) -> Classifier:
        """An unfitted copy with the same settings, for cross-validation.

        What `adapt` learned and the settings a fit has chosen go with it, so that a fold costs one plain fit.
        """

    def state(self) -> dict[str, NDArray[Any]]:
        """What prediction needs, as plain arrays for `np.savez`; nothing pickled."""

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Become the classifier whose `state()` this is."""


class EmbeddingClassifier:
    """Logistic regression on centred, length-1 embeddings, class-weighted and calibrated.

    The strength of regularisation and a temperature (Guo et al. 2017, 1706.04599) minimise the log loss of
    out-of-fold predictions, so a stated confidence is one on rows the model has not seen. With one known
    class every probability is 1.

    `strength` and `temperature` fix a choice; None leaves it to the data.
    """

    folds = 5

    def __init__(
        self, *, strength: float | None = None, temperature: float | None = None, seed: int = 0
    ) -> None:
        self.strength = strength
        self.temperature = temperature
        self.seed = seed
        self.classes_: tuple[str, ...] = ()
        self._centre: NDArray[Any] | None = None
        self._chosen: tuple[float, float] | None = None
        self._weights: NDArray[Any] = np.zeros((0, 0), dtype=np.float32)
        self._bias: NDArray[Any] = np.zeros(0, dtype=np.float32)

    def adapt(self, pool: Rows) -> Self:
        """Take the pool's mean embedding, from at most 2,000 rows, as the centre."""
        if len(pool):
            sample = pool[spread(len(pool), CENTRE_SAMPLE)]
            self._centre = _flat(sample).mean(axis=0)
        return self

    def fit(self, x: Rows, labels: Sequence[str], sample_weight: NDArray[Any] | None = None) -> Self:
        """Fit on (n, d) embeddings; milliseconds at 100 rows, whatever d is.

        Raises ValueError on no rows, on rows and labels of different length, and on embeddings that are not
        finite.
        """
        if len(labels) == 0 or len(x) != len(labels):
            raise ValueError(
                f"fit needs one label a row and at least one: got {len(x)} rows, {len(labels)} labels"
            )
        if self._centre is None:
            self._centre = _flat(x).mean(axis=0)
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
            return self
        weight = np.ones(len(codes)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        with single_threaded():
            self._fit_head(rows, codes, weight)
        return self

    def predict_proba(self, x: Rows) -> NDArray[Any]:
        """(n, k) float32, read a chunk of rows at a time: `x` may be a float16 memory map."""
        self._require_fit()
        probabilities = np.empty((len(x), len(self.classes_)), dtype=np.float32)
        for rows in chunks(len(x)):
            probabilities[rows] = softmax(self.features(x[rows]) @ self._weights + self._bias)
        return probabilities

    def features(self, x: Rows) -> NDArray[Any]:
        """(n, d) float32 embeddings, centred and of length 1 (a row at the centre stays 0)."""
        rows = _flat(x)
        if self._centre is not None:
            rows = rows - self._centre
        return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))

    def fresh(self) -> EmbeddingClassifier:
        """An unfitted copy; keeps the centre and, after a fit, the strength and temperature it chose."""
        copy = EmbeddingClassifier(
            strength=self.strength if self._chosen is None else self._chosen[0],
            temperature=self.temperature if self._chosen is None else self._chosen[1],
            seed=self.seed,
        )
        copy._centre = self._centre
        return copy

    def state(self) -> dict[str, NDArray[Any]]:
        """Arrays `classes`, `centre`, `weights`, `bias`; the temperature is already in the last two."""
        self._require_fit()
        return {
            "classes": np.asarray(self.classes_, dtype=str),
            "centre": np.asarray(self._centre),
            "weights": self._weights,
            "bias": self._bias,
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Predict as the classifier did whose state this is."""
        self.classes_ = tuple(str(name) for name in state["classes"])
        self._centre, self._weights, self._bias = state["centre"], state["weights"], state["bias"]
        return self

    def _require_fit(self) -> None:
        if not self.classes_:
            raise RuntimeError("this classifier has not been fitted: call fit, or load_state, first")

    def _fit_head(self, rows: NDArray[Any], codes: NDArray[Any], weight: NDArray[Any]) -> None:
        # The penalised optimum lies in the span of the rows, so n numbers a class are enough where n < d.
        basis = (
            np.linalg.qr(rows.T)[0] if len(rows) < rows.shape[1] else np.eye(rows.shape[1], dtype=np.float32)
        )
        inside = rows @ basis
        strength, temperature = self._tune(inside, codes, weight)
        weights, bias = fit_softmax(
            inside, codes, len(self.classes_), weight=_balanced(codes, weight), strength=strength
        )
        self._chosen = (strength, temperature)
        self._weights = (basis @ weights / temperature).astype(np.float32)
        self._bias = (bias / temperature).astype(np.float32)

    def _tune(self, x: NDArray[Any], codes: NDArray[Any], weight: NDArray[Any]) -> tuple[float, float]:
        """The strength and temperature with the least out-of-fold log loss."""
        if self.strength is not None and self.temperature is not None:
            return self.strength, self.temperature
        # A class with one row is missing from the fold that judges it: that row says nothing about either
        # choice.
        judged = np.bincount(codes)[codes] > 1
        if judged.sum() < 4:
            return self.strength or STRENGTHS[0], self.temperature or 1.0
        n_classes = int(codes.max()) + 1
        folds = stratified_folds(codes, TUNING_FOLDS, self.seed)
        strengths = STRENGTHS if self.strength is None else (self.strength,)
        temperatures = TEMPERATURES if self.temperature is None else np.asarray([self.temperature])
        logits = np.zeros((len(strengths), len(codes), n_classes))
        for fold in range(TUNING_FOLDS):
            test, train = folds == fold, folds != fold
            balanced = _balanced(codes[train], weight[train])
            for number, strength in enumerate(strengths):
                weights, bias = fit_softmax(
                    x[train], codes[train], n_classes, weight=balanced, strength=strength, tolerance=1e-5
                )
                logits[number, test] = x[test] @ weights + bias
        # Few labels say little about the temperature: a prior holds it near 1 until they do.
        prior = np.log(temperatures) ** 2
        best = (np.inf, 0, 1.0)
        for number in range(len(strengths)):
            loss = np.array(
                [weight[judged] @ log_loss(logits[number, judged] / t, codes[judged]) for t in temperatures]
            )
            choice = int(np.argmin(loss + prior))
            best = min(best, (float(loss[choice] + prior[choice]), number, float(temperatures[choice])))
        return float(strengths[best[1]]), best[2]


def _flat(x: Rows) -> NDArray[Any]:
    rows = np.asarray(x, dtype=np.float32)
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def _balanced(codes: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """Weights under which every class present weighs the same and all rows together what they weighed."""
    totals = np.bincount(codes, weights=weight)
    present = totals > 0
    totals[~present] = 1.0
    return np.asarray(weight * weight.sum() / (present.sum() * totals[codes]))
