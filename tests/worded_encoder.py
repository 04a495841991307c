"""An encoder for tests that reads words, too, and whose space is known: how red, green and blue a crop is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.encoders.base import Encoder
from tests.stand_in_label_studio import data_uri

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


class Worded(Encoder):
    """Rows are (3,) float32: the mean colour. Words lie at the sum of the colours they name; of no colour, at grey."""

    read: list[str]
    """The words that were asked for."""

    def __init__(self, device: str = "auto", threads: int | None = None) -> None:
        del device, threads
        self.name, self.dim, self.dtype, self.crop_size = "worded", 3, np.dtype(np.float32), 16
        self.licence = "of our own"
        self.read = []

    def make_classifier(self) -> EmbeddingClassifier:
        return EmbeddingClassifier()

    def encode_words(self, words: Sequence[str]) -> NDArray[Any]:
        self.read += words
        found = [
            [COLOURS[one] for one in COLOURS if one in text.lower()] or [(1.0, 1.0, 1.0)] for text in words
        ]
        return np.array([np.sum(colours, axis=0) for colours in found], dtype=np.float32).reshape(-1, 3)

    def _encode_batch(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        return (crops.astype(np.float32) / 255).mean(axis=(1, 2)) + 1e-3


def add_coloured(services: Any, stand_in: Any, of_each: int) -> dict[int, str]:
    """Make project 1 of so many crops of each colour, embedded; return the colour by task."""
    stand_in.add_project(1)
    rng = np.random.default_rng(0)
    names = [*COLOURS] * of_each
    ids = stand_in.add_tasks(1, *(coloured(name, rng) for name in names))
    services.store.save_project(1, connected=True)
    services.loop.catch_up(1)
    return dict(zip(ids, names, strict=True))


def coloured(name: str, rng: np.random.Generator) -> str:
    """Return a crop of a colour, and a little of the others, as a data: URI; no two are the same."""
    colour = 40 + 180 * np.array(COLOURS[name]) + rng.integers(-30, 30, 3)
    pixels = np.clip(colour + rng.integers(-8, 8, (16, 16, 3)), 0, 255).astype(np.uint8)
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "PNG")
    return data_uri(stored.getvalue())
