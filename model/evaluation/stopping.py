"""When to stop labelling: once more labels no longer change what the model says of the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from everylabel.model.pool import sample

STOP_SET = 1000


@dataclass(frozen=True)
class PoolPredictions:
    """Predictions, for a fixed sample of the pool, of the model trained on the labels of people alone."""

    n_labels: int
    indices: tuple[int, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class StoppingAdvice:
    """Advice on whether more labels seem worth a person's time, with the reason."""

    stop: bool
    reason: str
    kappa: float | None
    """Mean agreement over the comparisons made; None while there is none, or while it is undefined."""


def stopping_advice(
    history: Sequence[PoolPredictions], *, step: int = 10, window: int = 3, threshold: float = 0.98
) -> StoppingAdvice:
    """Advise to stop once predictions have been stable over `window` steps of `step` labels or more.

    Stabilising predictions (Bloodgood and Vijay-Shanker 2009, "A method for stopping active learning based
    on stabilizing predictions"): Cohen's kappa between successive models on crops that need no labels, so no
    label is spent on it. Rounds that are only a few labels apart agree whatever happens and are passed over;
    a step is at least a tenth of the labels, for the same reason.
    """
    points = _checkpoints(history, step)
    if len(points) < 2:
        return StoppingAdvice(False, f"too early to say: fewer than {step} labels to compare over", None)
    kappas = [cohen_kappa(one, other) for one, other in pairwise(points[-window - 1 :])]
    known = [kappa for kappa in kappas if kappa is not None]
    if len(known) < len(kappas):
        return StoppingAdvice(False, "too early to say: the model predicts a single class", None)
    mean = float(np.mean(known))
    labels = points[-1].n_labels - points[-1 - len(kappas)].n_labels
    if len(known) < window:
        return StoppingAdvice(False, f"too early to say: compared over the last {labels} labels only", mean)
    if min(known) >= threshold:
        return StoppingAdvice(
            True, f"the last {labels} labels changed next to no prediction: more will bring little", mean
        )
    return StoppingAdvice(False, f"the last {labels} labels still changed predictions", mean)


def cohen_kappa(one: PoolPredictions, other: PoolPredictions) -> float | None:
    """Return the agreement beyond chance on the crops that both predicted.

    Returns:
        Cohen's kappa; None where no crop is common, or where both predict one class throughout: agreement by chance
        is then certain and kappa is undefined.
    """
    said = dict(zip(one.indices, one.labels, strict=True))
    pairs = [
        (said[index], label)
        for index, label in zip(other.indices, other.labels, strict=True)
        if index in said
    ]
    if not pairs:
        return None
    classes, codes = np.unique(np.asarray(pairs, dtype=str), return_inverse=True)
    if len(classes) == 1:
        return None  # agreement by chance is certain, and scikit-learn would divide by 0
    # As numbers: scikit-learn takes three times as long to compare names.
    first, second = codes.reshape(-1, 2).T
    return float(cohen_kappa_score(first, second))


def stop_set(n_pool: int, excluded: NDArray[Any]) -> NDArray[Any]:
    """Return at most 1,000 pool indices, the same ones every round while the pool and its exclusions stay."""
    found = np.setdiff1d(sample(np.arange(n_pool), 2 * STOP_SET, np.random.default_rng(0)), excluded)
    return np.sort(found)[:: max(1, len(found) // STOP_SET)][:STOP_SET]


def _checkpoints(history: Sequence[PoolPredictions], step: int) -> list[PoolPredictions]:
    """Return the rounds that are a step apart, from the newest back; oldest first."""
    points: list[PoolPredictions] = []
    for found in sorted(history, key=lambda found: found.n_labels, reverse=True):
        if not points or points[-1].n_labels - found.n_labels >= max(step, points[-1].n_labels // 10):
            points.append(found)
    return points[::-1]
