"""Synthetic embeddings for a benchmark: a file of any size, with the width of a number or of an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.progress import Progress
from everylabel.model import encoders
from everylabel.model.classifiers.embedding import EmbeddingClassifier

CLASSES: Final = 10
LABELS: Final = 100


@dataclass(frozen=True)
class Shape:
    """The width of an embedding, and the encoder it comes from if there is one."""

    name: str
    """As asked for: a number, or an encoder's name."""
    dim: int
    standardized: int = 0
    """Of the last columns, how many the head gives a scale of their own."""

    def make_classifier(self) -> EmbeddingClassifier:
        """Create the classifier that a project with such embeddings uses."""
        return EmbeddingClassifier(standardized=self.standardized)

    def __str__(self) -> str:
        named = "" if self.name == str(self.dim) else f" ({self.name})"
        apart = f", {self.standardized:,} of them standardised" if self.standardized else ""
        return f"{self.dim:,} numbers{apart}{named}"


@dataclass(frozen=True)
class Embeddings:
    """A file of random embeddings in ten overlapping clusters, and the cluster of each row."""

    path: Path
    shape: Shape
    classes: tuple[int, ...]
    """Of the first rows, which are the labelled ones."""

    def read(self, n: int) -> NDArray[Any]:
        """Return the first `n` rows as a memory map, (n, d) float16."""
        return np.memmap(self.path, dtype=np.float16, mode="r", shape=(n, self.shape.dim))


def shape(name: str) -> Shape:
    """Return the shape of embeddings, given their width or an encoder's name.

    Raises:
        ValueError: neither a number of 2 or more nor an encoder that gives embeddings.
    """
    if name.isdigit():
        if int(name) < 2:
            raise ValueError(f"An embedding has two numbers or more: got {name}.")
        return Shape(name, int(name))
    encoder = encoders.create(name, device="cpu")
    classifier = encoder.make_classifier()
    if classifier.space is None:
        raise ValueError(f"{name!r} is trained whole and gives no embeddings: name another encoder.")
    return Shape(name, encoder.dim, classifier.space.standardized)


def make_embeddings(path: Path, n: int, shape: Shape, report: Progress) -> Embeddings:
    """Write `n` rows: never negative, as after a rectifier, and off centre."""
    random = np.random.default_rng(0)
    centres = 0.3 * random.standard_normal((CLASSES, shape.dim), dtype=np.float32) + 0.5
    classes = random.integers(CLASSES, size=n)
    with path.open("wb") as file:
        for start in range(0, n, 20_000):
            part = classes[start : start + 20_000]
            rows = centres[part] + random.standard_normal((len(part), shape.dim), dtype=np.float32)
            file.write(np.maximum(rows, 0).astype(np.float16).tobytes())
            report(f"Making embeddings of {shape.dim}", min(start + 20_000, n), n)
    return Embeddings(path, shape, tuple(classes[:LABELS].tolist()))
