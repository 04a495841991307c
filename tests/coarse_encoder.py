"""A second encoder for tests: fast, of other rows than ours, and it counts what it embeds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.encoders.base import Encoder


class Coarse(Encoder):
    """A crop as 8 x 8 numbers."""

    encoded = 0

    def __init__(self, device: str = "auto", threads: int | None = None) -> None:
        del device, threads
        self.name, self.dim, self.dtype, self.crop_size = "coarse", 64, np.dtype(np.float32), 32
        self.licence = "of our own"

    def make_classifier(self) -> EmbeddingClassifier:
        return EmbeddingClassifier()

    def _encode_batch(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        type(self).encoded += len(crops)
        grey = crops.mean(axis=3) / 255
        return (
            grey.reshape(len(crops), 8, 4, 8, 4).mean(axis=(2, 4)).reshape(len(crops), 64).astype(np.float32)
        )


class Renamed(Coarse):
    """The same under another name of its class."""
