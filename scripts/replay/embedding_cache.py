"""A cache of embeddings on disk: a crop is encoded once, however often a simulation is run or interrupted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from everylabel.scripts.replay.labelled_data import LabelledCrops

if TYPE_CHECKING:
    from everylabel.model.encoders import Encoder

CHUNK = 128


def embed(
    crops: LabelledCrops,
    encoder: Encoder,
    cache_dir: Path,
    report: Callable[[int, int], None] = lambda _d, _t: None,
) -> Path:
    """Encode the crops that are not encoded yet.

    The file is named by the crops' content and `encoder.signature`. Rows are appended to a `.partial` file as they
    come, so that an interrupted run continues where it stopped.

    Args:
        crops: the crops, in order.
        encoder: turns them into embeddings.
        cache_dir: where the file goes.
        report: called with (done, total).

    Returns:
        An .npy file of (n, dim) rows that can be memory-mapped.
    """
    key = hashlib.blake2b(encoder.signature.encode(), digest_size=16)
    for row in range(len(crops)):
        key.update(crops.digest(row).encode())
    cache_dir.mkdir(parents=True, exist_ok=True)
    target = cache_dir / f"{key.hexdigest()}.npy"
    if target.exists():
        return target
    partial = target.with_suffix(".partial")
    row_bytes = encoder.dim * encoder.dtype.itemsize
    with partial.open("ab") as file:
        done = file.tell() // row_bytes
        file.truncate(done * row_bytes)
        while done < len(crops):
            report(done, len(crops))
            until = min(done + CHUNK, len(crops))
            batch = np.stack([encoder.prepare(crops.open_image(row)) for row in range(done, until)])
            file.write(encoder.encode(batch).tobytes())
            done = until
    report(done, len(crops))
    rows = np.fromfile(partial, dtype=encoder.dtype).reshape(len(crops), encoder.dim)
    whole = target.with_suffix(f".{os.getpid()}.npy")
    np.save(whole, rows)
    whole.replace(target)
    partial.unlink()
    return target
