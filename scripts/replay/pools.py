"""Data sets made ready to replay: loaded, thinned, encoded, and paired with strategies and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.progress import Progress
from everylabel.model import encoders
from everylabel.scripts.replay.embedding_cache import embed
from everylabel.scripts.replay.labelled_data import load, thin
from everylabel.scripts.replay.replay import Task


@dataclass(frozen=True)
class Pool:
    """A data set to replay: where its embeddings are, and which rows of them belong to it."""

    data: str
    embeddings: Path
    rows: tuple[int, ...]
    labels: tuple[str, ...]


def prepare(
    source: str,
    encoder: str,
    cache: Path,
    *,
    limit: int | None = None,
    keep_every: Sequence[str] = (),
    report: Progress,
) -> Pool:
    """Load and encode one data set.

    Thinning comes last, so that a thinned data set needs no encoding of its own.

    Args:
        source: as `labelled_data.load` takes it.
        encoder: an encoder's name.
        cache: a folder for embeddings.
        limit: how many crops to sample.
        keep_every: as `labelled_data.thin` takes them.
        report: called with (what, done, total).

    Raises:
        DatasetError: the crops cannot be used.
        ValueError: an unknown encoder.
    """
    crops = load(source, cache, limit=limit)
    made = encoders.create(encoder)
    path = embed(crops, made, cache, lambda done, total: report(f"Encoding {crops.name}", done, total))
    rows: NDArray[Any] = np.arange(len(crops))
    for rule in keep_every:
        crops, kept = thin(crops, rule)
        rows = rows[kept]
    return Pool(crops.name, path, tuple(rows.tolist()), crops.labels)


def tasks(base: Task, pools: Sequence[Pool], strategies: Sequence[str], seeds: Sequence[int]) -> list[Task]:
    """Return one task for every run, all strategies of a seed side by side."""
    return [
        replace(
            base,
            data=pool.data,
            embeddings=pool.embeddings,
            rows=pool.rows,
            labels=pool.labels,
            strategy=name,
            seed=seed,
        )
        for pool in pools
        for seed in seeds
        for name in strategies
    ]
