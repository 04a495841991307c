"""`everylabel benchmark`: compare query strategies, and measure what a round and embedding cost."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.model import encoders
from everylabel.scripts.benchmarks import compare_strategies, measure_performance
from everylabel.scripts.benchmarks.measure_performance import Embedding, Rounds
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, fail
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.learning_curves import summarise
from everylabel.scripts.replay.learning_plot import PlotError, require_matplotlib
from everylabel.scripts.replay.learning_tables import table


@dataclass(frozen=True)
class PoolOptions:
    """The options of `--pool` as they are written: sizes and dims with commas, and whether to run peers too."""

    sizes: str
    dim: str
    peers: bool


def measure(
    pool: PoolOptions | None, embedding: Embedding | None, *, out: Path | None, json_file: Path | None
) -> None:
    """Measure a round, embedding, or both, and write the results where that is asked for."""
    load_settings()  # a value that is wrong is told before anything is measured
    try:
        rounds = None if pool is None else Rounds.of(pool.sizes, pool.dim, peers=pool.peers)
        measure_performance.run(rounds, embedding, out=out, json_file=json_file)
    except (ValueError, ImageError, RuntimeError) as error:
        fail(error)


def compare(
    only: str,
    *,
    peers: bool,
    seeds: int,
    budget: int,
    jobs: int,
    keep: Path | None,
    cache: Path,
    out: Path | None,
) -> None:
    """Compare query strategies and write docs/learning.md, or that of the folder `out`."""
    try:
        require_matplotlib()
        chosen = compare_strategies.strategies_to_compare(only, peers=peers)
        curves = compare_strategies.run_comparison(
            chosen, seeds, budget, jobs or os.cpu_count() or 1, keep, cache
        )
    except (DatasetError, PlotError, ValueError) as error:
        fail(error)
    summaries = summarise(curves, encoders.DEFAULT)
    console.print(table(summaries))
    compare_strategies.write_page(summaries, curves, out or Path("docs"))
