"""Ridge regression of class indicators on few rows: closed form, with exact leave-one-out scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve


def fit_ridge(
    x: NDArray[Any], codes: NDArray[Any], n_classes: int, *, weight: NDArray[Any], penalty: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Minimise `sum(weight * |x W + b - indicator|²) + penalty * (|W|² + |b|²)`.

    It costs the cube of the smaller of n and d.

    Args:
        x: (n, d) rows; those of length 1 make 1 a moderate penalty.
        codes: (n,) class codes in 0 … n_classes-1; a class may have no rows.
        n_classes: k.
        weight: (n,) weights of the rows.
        penalty: what large weights cost.

    Returns:
        W, (d, k), and b, (k,), both float64.
    """
    _, rows, target = _weighted(x, codes, n_classes, weight)
    small = min(rows.shape)
    if small == len(rows):
        dual = cho_solve(cho_factor(rows @ rows.T + penalty * np.eye(small)), target)
        solution = rows.T @ dual
    else:
        solution = cho_solve(cho_factor(rows.T @ rows + penalty * np.eye(small)), rows.T @ target)
    return solution[:-1], solution[-1]


def leave_one_out_scores(
    x: NDArray[Any],
    codes: NDArray[Any],
    n_classes: int,
    *,
    weight: NDArray[Any],
    penalties: Sequence[float] | NDArray[Any],
) -> NDArray[Any]:
    """Return what `fit_ridge` without a row says of that row, from one decomposition.

    Exact, weights apart: those of the other rows stay as they are (Cook and Weisberg 1982; for ridge
    regression Golub, Heath and Wahba 1979). It costs the cube of n. A row of weight 0 gets what the fit says.

    Args:
        x: (n, d) rows.
        codes: (n,) class codes in 0 … n_classes-1.
        n_classes: k.
        weight: (n,) weights of the rows.
        penalties: the penalties to score under.

    Returns:
        (len(penalties), n, k) float64 scores.
    """
    root, rows, target = _weighted(x, codes, n_classes, weight)
    values, vectors = np.linalg.eigh(rows @ rows.T)
    values = np.maximum(values, 0.0)
    inside = vectors.T @ target
    squared = vectors * vectors
    scores = np.empty((len(penalties), len(codes), n_classes))
    for number, penalty in enumerate(penalties):
        shrink = values / (values + penalty)
        residual = target - vectors @ (shrink[:, None] * inside)
        leverage = np.minimum(squared @ shrink, 1 - 1e-9)
        scores[number] = (target - residual / (1 - leverage)[:, None]) / root
    return scores


def _weighted(
    x: NDArray[Any], codes: NDArray[Any], n_classes: int, weight: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the roots of the weights, (n, 1), and rows (a constant 1 beside them) and indicators times the roots."""
    root = np.sqrt(np.maximum(np.asarray(weight, dtype=np.float64), 1e-12))[:, None]
    rows = np.empty((len(x), x.shape[1] + 1))
    rows[:, :-1], rows[:, -1] = x, 1.0
    target = np.zeros((len(x), n_classes))
    target[np.arange(len(x)), codes] = 1.0
    return root, rows * root, target * root
