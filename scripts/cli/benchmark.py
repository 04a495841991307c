"""Options of `everylabel benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everylabel.model import encoders
from everylabel.scripts.cli.options import EmbeddingCache, Processes
from everylabel.scripts.console import fail
from everylabel.scripts.replay.names import DEFAULT_CACHE

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
    jobs: Processes = 0,
    out: Out = None,
    keep: Keep = None,
    cache: EmbeddingCache = DEFAULT_CACHE,
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
    from everylabel.scripts.benchmarks.measure_performance import Embedding
    from everylabel.scripts.commands import benchmark

    if learning:
        benchmark.compare(
            strategy, peers=peers, seeds=seeds, budget=budget, jobs=jobs, keep=keep, cache=cache, out=out
        )
        return
    benchmark.measure(
        benchmark.PoolOptions(sizes, dim, peers) if pool else None,
        Embedding(encoder, device, images, crops, pixels) if embed else None,
        out=out,
        json_file=json_file,
    )
