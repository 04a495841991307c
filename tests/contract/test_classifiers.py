"""Every classifier keeps the same promises."""

from __future__ import annotations

import pytest
import torch

from everylabel.model.classifiers import (
    Classifier,
    EmbeddingClassifier,
    MultiLabelClassifier,
    TorchClassifier,
)
from everylabel.model.testing import ClassifierContract


def network(n_classes: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(24, 16), torch.nn.ReLU(), torch.nn.Linear(16, n_classes))


class TestEveryClassifier(ClassifierContract):
    @pytest.fixture(params=["embedding", "standardized", "multi-label", "torch"])
    def classifier(self, request: pytest.FixtureRequest) -> Classifier:
        made: dict[str, Classifier] = {
            "embedding": EmbeddingClassifier(),
            "standardized": EmbeddingClassifier(standardized=8),
            "multi-label": MultiLabelClassifier(),
            "torch": TorchClassifier(network, learning_rate=1e-2),
        }
        return made[request.param]
