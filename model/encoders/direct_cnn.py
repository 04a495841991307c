"""A small convolutional network trained on the labels: for crops unlike anything pretrained networks saw."""

from __future__ import annotations

import torch
from torch import nn

from everylabel.model.encoders.trainable import ConvolutionalTrunk, TrainableEncoder


class DirectCNN(nn.Module):
    """Convolutional trunk and a linear layer: (n, 64 * 64 * 3) pixels in 0 … 255 -> (n, n_classes) logits."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.trunk = ConvolutionalTrunk()
        self.classify = nn.Linear(self.trunk.out_features, n_classes)

    def features(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the (n, 128) features that the logits are linear in."""
        features: torch.Tensor = self.trunk(rows)
        return features

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (n, n_classes) logits."""
        logits: torch.Tensor = self.classify(self.features(rows))
        return logits


class DirectCNNEncoder(TrainableEncoder):
    """Stores pixels; trains a `DirectCNN` on each round's labels."""

    name = "direct-cnn"

    @staticmethod
    def make_network(n_classes: int) -> nn.Module:
        """Make an untrained `DirectCNN`."""
        return DirectCNN(n_classes)
