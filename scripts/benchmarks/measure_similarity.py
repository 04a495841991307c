"""Measure how many crops of a rare class are among those most like one example of it.

    python -m everylabel.scripts.benchmarks.measure_similarity digits fashion animals solar-cells

makes each class in turn rare, 4 % of at most 2,000 crops, and takes its crops as examples: of the 24 crops most
similar to one, how many are of its class? By chance one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from everylabel.model import encoders
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.classifiers.embedding_space import EmbeddingSpace
from everylabel.model.similarity import most_similar, similarity_to
from everylabel.scripts.console import console, progress
from everylabel.scripts.replay.names import DEFAULT_CACHE
from everylabel.scripts.replay.pools import prepare

POOL, SHARE, SHOWN = 2000, 0.04, 24
EXAMPLES = 10


def rare_pools(labels: NDArray[Any], seed: int) -> Iterator[NDArray[Any]]:
    """Yield for each class the rows of a pool in which it is rare, those of the class first."""
    rng = np.random.default_rng(seed)
    for name in np.unique(labels):
        others = rng.permutation(np.flatnonzero(labels != name))[: round(POOL * (1 - SHARE))]
        members = rng.permutation(np.flatnonzero(labels == name))
        yield np.concatenate([members[: round(len(others) * SHARE / (1 - SHARE))], others])


def found_of_class(pool: NDArray[Any], n_members: int, space: EmbeddingSpace | None) -> list[int]:
    """Return how many of those shown are of the class, for each example; the class has the first rows."""
    others = np.arange(len(pool))
    return [
        int((most_similar(similarity_to(pool, row, space), SHOWN, others != row) < n_members).sum())
        for row in range(min(EXAMPLES, n_members))
    ]


def main(
    data: Annotated[list[str], typer.Argument(help="Data sets, as `everylabel simulate` takes them.")],
    seeds: Annotated[int, typer.Option(min=1, help="Pools of each class.")] = 3,
    limit: Annotated[int, typer.Option(min=100, help="Crops sampled of each data set.")] = 3000,
    encoder: Annotated[str, typer.Option(help="Encoder.")] = encoders.DEFAULT,
    cache: Annotated[Path, typer.Option(help="Where embeddings are kept.")] = DEFAULT_CACHE,
) -> None:
    """Measure how many crops of a rare class are among those most like one example."""
    classifier = encoders.create(encoder).make_classifier()
    space = classifier.space if isinstance(classifier, EmbeddingClassifier) else None
    means = []
    with progress() as report:
        pools = [prepare(source, encoder, cache, limit=limit, report=report) for source in data]
    for pool in pools:
        embeddings = np.load(pool.embeddings, mmap_mode="r", allow_pickle=False)[list(pool.rows)]
        labels = np.asarray(pool.labels)
        counts = [
            count
            for seed in range(seeds)
            for rows in rare_pools(labels, seed)
            for count in found_of_class(embeddings[rows], int((labels[rows] == labels[rows[0]]).sum()), space)
        ]
        means.append(float(np.mean(counts)))
        console.print(f"{pool.data:24}{means[-1]:5.1f} of {SHOWN} ({len(counts)} examples)")
    console.print(f"{'on average':24}{np.mean(means):5.1f}")


if __name__ == "__main__":
    typer.run(main)
