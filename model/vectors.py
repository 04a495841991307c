"""Rows of numbers as the learning core compares them: flat, of length 1, or in fewer dimensions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from everylabel.model.pool import Rows


def flat_rows(x: Rows) -> NDArray[Any]:
    """Return (n, ...) rows of any kind, a tensor included, as an (n, d) float32 array."""
    rows = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x
    flat = np.asarray(rows, dtype=np.float32)
    return flat.reshape(len(flat), math.prod(flat.shape[1:]))


def unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Scale (n, d) rows to length 1; a row of zeros stays as it is."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def project(features: NDArray[Any], dim: int) -> NDArray[Any]:
    """Reduce (n, d) features to (n, dim) by a fixed random projection; narrower features stay as they are.

    Inner products are about kept (Johnson and Lindenstrauss 1984).
    """
    if features.shape[1] <= dim:
        return features
    directions = np.random.default_rng(0).standard_normal((features.shape[1], dim), dtype=np.float32)
    return np.asarray(features @ (directions / np.float32(np.sqrt(dim))))
