"""How uncertain a model is of each crop: 1 where two classes are level, 0 where one is certain."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from everylabel.model.pool import Rows
from everylabel.model.torch_module import predict_proba


def margin_uncertainty(probabilities: NDArray[Any]) -> NDArray[Any]:
    """Return 1 minus the margin between the two most probable classes: (n, k) to (n,) in 0 … 1.

    With two classes that is 1 - |2p - 1|, so 1 at p = 0.5. With a single column it is 1 - p.
    """
    if probabilities.shape[1] == 1:
        return np.asarray(np.clip(1.0 - probabilities[:, 0], 0.0, 1.0))
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(np.clip(1.0 - (two[:, 1] - two[:, 0]), 0.0, 1.0))


def compute_uncertainty_scores(
    model: torch.nn.Module, crops: Rows, device: str | torch.device = "cpu"
) -> NDArray[Any]:
    """Return the margin uncertainty of each crop under a torch module: (n, ...) crops to (n,) in 0 … 1, 1 at p = 0.5.

    The module is read as in `everylabel.model.torch_module.predict_proba`: one logit, two or many, or its own
    `predict_proba`.
    """
    return margin_uncertainty(predict_proba(model, crops, device))
