"""Weights under which classes count the same, however many labels each has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def balanced(codes: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """Reweigh rows so that every class present weighs the same, and all rows together what they weighed.

    Args:
        codes: (n,) class codes from 0.
        weight: (n,) weights before balancing.

    Returns:
        (n,) float64 weights.
    """
    totals = np.bincount(codes, weights=weight)
    present = totals > 0
    totals[~present] = 1.0
    return np.asarray(weight * weight.sum() / (present.sum() * totals[codes]))
