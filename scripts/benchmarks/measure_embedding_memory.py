"""Measure how much memory embedding takes: the peak of the process after each number of crops.

Run `python -m everylabel.scripts.benchmarks.measure_embedding_memory 10000 200000`. Crops have the default encoder's size and
rows its width; a stand-in computes them, because only the memory that is held counts here.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everylabel.backend.embedding.pipeline import CropEmbedder
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.store import Store, Task
from everylabel.backend.store.files import EmbeddingFile
from everylabel.model.classifiers.base import Classifier
from everylabel.model.encoders.base import Encoder

DEFAULT_NUMBERS = (10_000, 200_000)
SAVED_TOGETHER = 5000


class StandInEncoder(Encoder):
    """Rows of 1,888 numbers, as the default encoder's."""

    name, dim, dtype, crop_size, batch_size = "stand-in", 1888, np.dtype(np.float16), 160, 32

    def _encode_batch(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        return np.tile(crops[:, ::20, ::20].reshape(len(crops), -1)[:, :118].astype(np.float32), 16)

    def make_classifier(self) -> Classifier:
        """Refuse: nothing is trained here."""
        raise NotImplementedError("this encoder is only measured")


class PlainPictures(ImageReader):
    """A picture of one colour for each task, made and not fetched."""

    def __init__(self) -> None:
        super().__init__("http://localhost")

    def read(self, url: str, task_id: int, *, enough: int | None = None) -> Image.Image:
        """Make the picture of a task."""
        del url, enough
        return Image.new("RGB", (160, 160), (task_id % 256, task_id // 256 % 256, task_id // 65536))


def measure(numbers: Sequence[int]) -> None:
    """Embed up to each number of crops in turn, and print the peak after each."""
    with tempfile.TemporaryDirectory(prefix="everylabel-") as folder:
        store = Store(f"sqlite:///{folder}/everylabel.db")
        store.save_project(1)
        encoder, file = (
            StandInEncoder(),
            EmbeddingFile(Path(folder) / "e.rows", StandInEncoder.dim, StandInEncoder.dtype),
        )
        known = 0
        for number in numbers:
            for start in range(known, number, SAVED_TOGETHER):
                ids = range(start + 1, min(start + SAVED_TOGETHER, number) + 1)
                store.save_tasks(1, [Task(id_, f"http://images/{id_}.jpg") for id_ in ids])
            known = max(known, number)
            begun = time.monotonic()
            embedded = CropEmbedder(store, PlainPictures(), encoder, 8).embed(
                1, store.tasks_to_embed(1), file
            )
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            sys.stdout.write(
                f"{number:,} crops, {embedded.embedded:,} of them new: {peak:.0f} MiB at the peak, "
                f"{time.monotonic() - begun:.0f} s\n"
            )
            sys.stdout.flush()
        store.close()


if __name__ == "__main__":
    measure([int(number) for number in sys.argv[1:]] or DEFAULT_NUMBERS)
