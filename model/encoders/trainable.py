"""Encoders without a pretrained network: pixels are stored, and a small network learns from the labels."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from everylabel.model.classifiers.base import Classifier
from everylabel.model.classifiers.torch_classifier import TorchClassifier
from everylabel.model.encoders.base import Encoder, choose_device
from everylabel.model.onnx_graph import Graph

CROP_SIZE = 64


class TrainableEncoder(Encoder):
    """Stores crops as pixels, (64 * 64 * 3,) uint8; `make_network(n_classes)` is trained on them each round."""

    licence = "no weights of others: the network is trained on this project's labels alone"
    epochs = 40

    def __init__(self, device: str = "auto", threads: int | None = None) -> None:
        del threads  # PyTorch has one thread pool for the whole process: torch.set_num_threads
        self.crop_size = CROP_SIZE
        self.dim = CROP_SIZE * CROP_SIZE * 3
        self.dtype = np.dtype(np.uint8)
        self.device = choose_device(device)

    @staticmethod
    @abstractmethod
    def make_network(n_classes: int) -> nn.Module:
        """Make the untrained network; it takes the stored rows as float32."""

    def make_classifier(self) -> Classifier:
        """Make a classifier that trains the network anew on each round's labels."""
        return TorchClassifier(self.make_network, epochs=self.epochs, device=self.device)

    def to_onnx(self) -> bytes:
        """Return what lays pixels out as rows: the network itself is the classifier's."""
        graph = Graph("crops", ("n", CROP_SIZE, CROP_SIZE, 3), "uint8")
        rows = graph.add("Reshape", "crops", graph.constant([-1, self.dim], "int64"))
        return graph.finish({"rows": (graph.cast(rows, "float32"), ("n", self.dim))})

    def _encode_batch(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        return crops.reshape(len(crops), -1)


class ConvolutionalTrunk(nn.Module):
    """(n, 64 * 64 * 3) pixels in 0 … 255, as stored -> (n, 128): four strided convolutions, then the mean.

    Small because it is trained anew after every few labels, on a CPU too: 3 s for 60 crops on two cores, a
    tenth of what convolutions at full size with pooling take, at level accuracy on digits.
    """

    out_features = 128

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, kernel, stride in ((16, 5, 2), (32, 3, 2), (64, 3, 2), (self.out_features, 3, 1)):
            layers += [
                nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Embed stored rows; (n, 64, 64, 3) pixels are taken too."""
        pixels = rows.reshape(-1, CROP_SIZE, CROP_SIZE, 3).permute(0, 3, 1, 2) / 127.5 - 1.0
        maps: torch.Tensor = self.layers(pixels)
        return maps.mean(dim=(2, 3))
