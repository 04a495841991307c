"""Softmax regression on few rows: the head that DropQuery fits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax


def log_loss(logits: NDArray[Any], codes: NDArray[Any]) -> NDArray[Any]:
    """Return the negative log likelihood of each row: (n, k) logits and (n,) codes to (n,)."""
    return np.asarray(-log_softmax(logits, axis=1)[np.arange(len(codes)), codes])


def fit_softmax(
    x: NDArray[Any],
    codes: NDArray[Any],
    n_classes: int,
    *,
    weight: NDArray[Any],
    strength: float,
    tolerance: float = 1e-7,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Minimise `strength * sum(weight * log loss) + |W|² / 2` over weights and bias by L-BFGS.

    The bias is all but free: a penalty of 1e-3 keeps it finite for a class without rows.

    Args:
        x: (n, d) rows.
        codes: (n,) class codes in 0 … n_classes-1; a class may have no rows.
        n_classes: k.
        weight: (n,) weights of the rows.
        strength: what the losses weigh against the penalty.
        tolerance: relative change of the objective to stop at; probabilities are then within 0.001 (1e-7) or
            0.01 (1e-5) of the optimum's.

    Returns:
        W, (d, k), and b, (k,), both float64.
    """
    n, d = x.shape
    # L-BFGS spends its time in these two products; float64 because its line search stalls in float32.
    x = np.ascontiguousarray(x, dtype=np.float64)
    target = np.zeros((n, n_classes))
    target[np.arange(n), codes] = 1.0
    scale = strength * weight[:, None]

    def objective(flat: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        weights, bias = flat[: d * n_classes].reshape(d, n_classes), flat[d * n_classes :]
        logits = x @ weights + bias
        top = logits.max(axis=1, keepdims=True)
        exponent = np.exp(logits - top)
        total = exponent.sum(axis=1, keepdims=True)
        losses = np.log(total) + top - (logits * target).sum(axis=1, keepdims=True)
        residual = scale * (exponent / total - target)
        gradient = np.concatenate([(x.T @ residual + weights).ravel(), residual.sum(axis=0) + 1e-3 * bias])
        value = (scale * losses).sum() + 0.5 * (weights**2).sum() + 0.5e-3 * (bias**2).sum()
        return float(value), gradient

    options = {"maxiter": 200, "gtol": 1e-3, "ftol": tolerance}
    found = minimize(objective, np.zeros((d + 1) * n_classes), jac=True, method="L-BFGS-B", options=options)
    return found.x[: d * n_classes].reshape(d, n_classes), found.x[d * n_classes :]
