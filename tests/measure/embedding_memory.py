"""How much memory embedding takes: `python -m tests.measure.embedding_memory [crops …]`, peak of the process after each number.

Crops of the default encoder's size and rows of its width; a stand-in computes them, for only what is held counts here.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from everylabel.backend.embedding.pipeline import CropEmbedder
from everylabel.backend.store import Store, Task
from everylabel.backend.store.files import EmbeddingFile
from everylabel.model.encoders import Encoder


class StandIn(Encoder):
    """Rows of 1,888 numbers, as the default encoder's."""

    name, dim, dtype, crop_size, batch_size = "stand-in", 1888, np.dtype(np.float16), 160, 32

    def _encode_batch(self, crops):
        return np.tile(crops[:, ::20, ::20].reshape(len(crops), -1)[:, :118].astype(np.float32), 16)

    def make_classifier(self):
        raise NotImplementedError


class Pictures:
    """A picture of one colour for each number."""

    def read(self, url, task_id, *, enough=None):
        return Image.new("RGB", (160, 160), (task_id % 256, task_id // 256 % 256, task_id // 65536))


def main(numbers: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/everylabel.db")
        store.save_project(1)
        file = EmbeddingFile(Path(folder) / "e.rows", StandIn.dim, StandIn.dtype)
        known = 0
        for number in numbers:
            for start in range(known, number, 5000):
                ids = range(start + 1, min(start + 5000, number) + 1)
                store.save_tasks(1, [Task(i, f"http://images/{i}.jpg") for i in ids])
            known = number
            begun = time.monotonic()
            CropEmbedder(store, Pictures(), StandIn(), 8).embed(1, store.tasks_to_embed(1), file)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            seconds = time.monotonic() - begun
            sys.stdout.write(f"{number:,} crops: {peak:.0f} MiB at its peak, {seconds:.0f} s\n")
            sys.stdout.flush()
        assert len(file) == known
        store.close()


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]] or [10_000, 200_000])
