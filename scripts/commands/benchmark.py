"""`everylabel benchmark`: compare query strategies, and measure what a round and embedding cost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.model import encoders
from everylabel.scripts.benchmarks import compare_strategies
from everylabel.scripts.console import console, fail
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.learning_curves import summarise
from everylabel.scripts.replay.learning_plot import PlotError, require_matplotlib
from everylabel.scripts.replay.learning_tables import table
from everylabel.scripts.replay.pools import DEFAULT_CACHE

Learning = Annotated[
    bool, typer.Option("--learning", help="Compare query strategies; writes learning.json and plots.")
]
PoolSizes = Annotated[
    bool,
    typer.Option("--pool", help="Measure a round by the size of the pool, and what one would use instead."),
]
Sizes = Annotated[str, typer.Option(help="With --pool: crops, with commas.")]
Dim = Annotated[
    str,
    typer.Option(
        help="With --pool: numbers an embedding has, or encoders by name, with commas; the first at every size, "
        "the others at the largest."
    ),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="With --pool or --embed: write the results of this run here.")
]
Seeds = Annotated[int, typer.Option(min=2, help="Runs of each strategy on each data set.")]
Budget = Annotated[int, typer.Option(min=10, help="Labels to spend in a run.")]
Peers = Annotated[
    bool, typer.Option(help="Run scikit-activeml's strategies too; with --pool, label-studio-ml as well.")
]
Strategies = Annotated[str, typer.Option(help="Only these strategies beside auto and random.")]
Jobs = Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="The folder whose learning.md or performance.md is written, with results and plots: docs with --learning, "
        "nowhere with --pool and --embed unless named."
    ),
]
Keep = Annotated[
    Path | None, typer.Option(help="Append every run to this file, and repeat none that it holds.")
]
Cache = Annotated[Path, typer.Option(help="Where embeddings are kept.")]
Embed = Annotated[
    bool, typer.Option("--embed", help="Measure embedding from JPEG files, beside the encoder alone.")
]
EncoderName = Annotated[str, typer.Option(help="--embed: which encoder.")]
Device = Annotated[str, typer.Option(help="--embed: auto, cpu, cuda or cuda:<number>.")]
Images = Annotated[
    Path | None, typer.Option(help="--embed: a folder of JPEG files in the place of made ones.")
]
Crops = Annotated[int, typer.Option(min=64, help="--embed: crops in a run.")]
Pixels = Annotated[int, typer.Option(min=32, help="--embed: width and height of the files made.")]


def benchmark(
    learning: Learning = False,
    pool: PoolSizes = False,
    sizes: Sizes = "100000,300000,1000000",
    dim: Dim = f"384,1280,{encoders.DEFAULT}",
    json_file: JsonFile = None,
    seeds: Seeds = 20,
    budget: Budget = 100,
    peers: Peers = True,
    strategy: Strategies = "",
    jobs: Jobs = 0,
    out: Out = None,
    keep: Keep = None,
    cache: Cache = DEFAULT_CACHE,
    embed: Embed = False,
    encoder: EncoderName = encoders.DEFAULT,
    device: Device = "auto",
    images: Images = None,
    crops: Crops = 2000,
    pixels: Pixels = 256,
) -> None:
    """Measure strategies on named data sets, embedding, or the cost of a round, beside what one would use instead."""
    if learning == (pool or embed):
        fail("Say what to measure: everylabel benchmark --learning, or --pool or --embed or both")
    if learning:
        _compare_strategies(strategy, peers, seeds, budget, jobs, keep, cache, out)
        return
    from everylabel.scripts.benchmarks import measure_performance  # noqa: PLC0415 - takes long to load

    embedding = measure_performance.Embedding(encoder, device, images, crops, pixels)
    try:
        measure_performance.run(
            measure_performance.Rounds.of(sizes, dim, peers=peers) if pool else None,
            embedding if embed else None,
            out=out,
            json_file=json_file,
        )
    except (ValueError, ImageError, RuntimeError) as error:
        fail(error)


def _compare_strategies(
    only: str,
    peers: bool,
    seeds: int,
    budget: int,
    jobs: int,
    keep: Path | None,
    cache: Path,
    out: Path | None,
) -> None:
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
