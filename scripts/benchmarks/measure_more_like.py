"""Measure how long it takes to find the crops most like one, or most like words, by the size of the pool.

    python -m everylabel.scripts.benchmarks.measure_more_like --crops 100000 --crops 1000000

makes a file of random embeddings as wide as the encoder's, and compares crops in all parts of it with every other, as a
page of those most like one does, and by a sketch, and both once more with random rows in the place of words: the median of
several, from the memory map to the crops of the page; a text tower's own time is not in it. The folder
takes 4 KB a crop of the default encoder and is deleted afterwards.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from everylabel.model import encoders
from everylabel.model.similarity import Sketch, most_similar, similarity_to, similarity_to_row
from everylabel.scripts.benchmarks.made_embeddings import make_embeddings, shape
from everylabel.scripts.console import console, progress

SHOWN = 24
REPEATS = 5


def main(
    crops: Annotated[
        list[int] | None, typer.Option(min=100, help="Crops of a pool; may be repeated.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Encoder whose width is taken.")] = encoders.DEFAULT,
    folder: Annotated[Path | None, typer.Option(help="Where the embeddings are made.")] = None,
) -> None:
    """Measure how long it takes to find the crops most like one."""
    sizes, wide = sorted(crops or [100_000]), shape(encoder)
    space = wide.make_classifier().space
    with tempfile.TemporaryDirectory(prefix="everylabel-benchmark-", dir=folder) as made:
        with progress() as report:
            embeddings = make_embeddings(Path(made) / "pool.rows", sizes[-1], wide, report)
        for n in sizes:
            pool = embeddings.read(n)
            console.print(f"{n:>11,} crops of {wide}:")
            _tell("all compared", partial(similarity_to, pool, space=space), n)
            started = time.perf_counter()
            sketch = Sketch.of(pool, space)
            console.print(f"{'':>13}a sketch made in {time.perf_counter() - started:,.1f} s")
            _tell("by the sketch", partial(sketch.similarity_to, pool), n)
            _tell("words with all", partial(_to_words, partial(similarity_to_row, pool), wide.dim), n)
            _tell(
                "words by the sketch",
                partial(_to_words, partial(sketch.similarity_to_row, pool), wide.dim),
                n,
            )


def _to_words(compare: Callable[[NDArray[Any]], NDArray[Any]], dim: int, seed: int) -> NDArray[Any]:
    """Compare with a random row, as words are one."""
    return compare(np.random.default_rng(seed).standard_normal(dim, dtype=np.float32))


def _tell(how: str, compare: Callable[[int], NDArray[Any]], n: int) -> None:
    """Print how long comparing takes, and choosing what is shown."""
    compared, chosen = [], []
    for row in np.linspace(0, n - 1, REPEATS).astype(int).tolist():
        started = time.perf_counter()
        similarity = compare(row)
        then = time.perf_counter()
        most_similar(similarity, SHOWN)
        compared.append(then - started)
        chosen.append(time.perf_counter() - then)
    console.print(
        f"{'':>13}{how}: {np.median(compared) * 1000:,.0f} ms "
        f"({min(compared) * 1000:,.0f} to {max(compared) * 1000:,.0f}) to compare, "
        f"{np.median(chosen) * 1000:,.1f} ms to choose {SHOWN}"
    )


if __name__ == "__main__":
    typer.run(main)
