"""A small network that learns which crops are alike, and classifies by likeness to the labelled ones."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from everylabel.model.encoders.trainable import ConvolutionalTrunk, TrainableEncoder

TEMPERATURE = 0.1


class SiameseNetwork(nn.Module):
    """Embeds crops so that those of a class lie close, by supervised contrastive loss (Khosla, 2004.11362).

    Classes are told apart by the nearest class mean of the labelled crops (prototypical networks, Snell et
    al., 1703.05175), which takes one crop of each class.
    """

    prototypes: torch.Tensor

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.trunk = ConvolutionalTrunk()
        self.project = nn.Linear(self.trunk.out_features, 64)
        self.register_buffer("prototypes", torch.zeros(n_classes, 64))

    def encode(self, rows: torch.Tensor) -> torch.Tensor:
        """Embed (n, 64 * 64 * 3) pixels in 0 … 255: (n, 64) of length 1."""
        return functional.normalize(self.project(self.trunk(rows)), dim=1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (n, n_classes) logits: likeness to each class's prototype; all equal before `set_support`."""
        return self.encode(rows) @ self.prototypes.T / TEMPERATURE

    def predict_proba(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (n, n_classes) probabilities from the few labelled crops that `set_support` was given."""
        return self.forward(rows).softmax(dim=1)

    def set_support(self, rows: torch.Tensor, codes: torch.Tensor) -> None:
        """Take labelled crops: (m, 64 * 64 * 3) pixels and (m,) class codes."""
        embeddings = torch.cat([self.encode(batch) for batch in torch.split(rows, 256)])
        self.prototypes = _class_means(embeddings, codes, len(self.prototypes))

    def loss(self, rows: torch.Tensor, codes: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the supervised contrastive loss of one batch; a crop alone in its class in the batch adds nothing."""
        embeddings = self.encode(rows)
        itself = torch.eye(len(codes), dtype=torch.bool, device=codes.device)
        likeness = (embeddings @ embeddings.T / TEMPERATURE).masked_fill(itself, -1e9)
        alike = (codes[:, None] == codes[None, :]) & ~itself
        log_share = likeness - likeness.logsumexp(dim=1, keepdim=True)
        partners = alike.sum(dim=1)
        per_crop = -(log_share * alike).sum(dim=1) / partners.clamp(min=1)
        counted = weights * (partners > 0)
        return (per_crop * counted).sum() / counted.sum().clamp(min=1e-6)


class SiameseEncoder(TrainableEncoder):
    """Stores pixels; trains a `SiameseNetwork` on each round's labels."""

    name = "siamese"

    @staticmethod
    def make_network(n_classes: int) -> nn.Module:
        """Make an untrained `SiameseNetwork`."""
        return SiameseNetwork(n_classes)


def _class_means(embeddings: torch.Tensor, codes: torch.Tensor, n_classes: int) -> torch.Tensor:
    of_class = functional.one_hot(codes.long(), n_classes).to(embeddings.dtype)
    return functional.normalize(of_class.T @ embeddings, dim=1)
