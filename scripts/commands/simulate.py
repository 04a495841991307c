"""`everylabel simulate`: replay labelling on crops whose labels are known, and compare strategies."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from everylabel.backend.progress import Progress
from everylabel.model import encoders, query
from everylabel.scripts.console import console, fail, progress
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.labelled_data import split_sources
from everylabel.scripts.replay.learning_curves import BASELINE, summarise
from everylabel.scripts.replay.learning_plot import PlotError, plot, require_matplotlib
from everylabel.scripts.replay.learning_tables import audit_table, table, write_json
from everylabel.scripts.replay.pools import DEFAULT_CACHE, prepare, tasks
from everylabel.scripts.replay.replay import Curve, Task, make_strategy, run


class OnOff(str, Enum):
    """A switch spelled out on the command line."""

    on = "on"
    off = "off"


Sources = Annotated[
    list[str],
    typer.Option(
        help="What to replay, repeatable or with commas: digits, solar-cells, fashion, animals, a folder of "
        "class folders, a .csv of paths and labels, an .npz with x and y. `:` selects classes: "
        "fashion:shirt,coat."
    ),
]
Strategies = Annotated[
    str, typer.Option(help=f"Query strategies with commas, from {', '.join(query.names())}.")
]
EncoderName = Annotated[str, typer.Option(help="The encoder, as for `everylabel demo`.")]
Seeds = Annotated[int, typer.Option(min=1, help="Runs of each strategy; intervals need two or more.")]
Budget = Annotated[int, typer.Option(min=1, help="Labels to spend in a run.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Labels between two trainings.")]
CheckShare = Annotated[
    float, typer.Option(min=0, max=0.9, help="Share of blind random check labels, counted as labels.")
]
PseudoLabels = Annotated[OnOff, typer.Option(help="Train on pseudo-labels too.")]
PreAnnotatedShare = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.5,
        help="Share of labels that goes to the crops the model is most confident of, as in the live backend.",
    ),
]
LabelNoise = Annotated[
    float,
    typer.Option(min=0, max=0.9, help="Share of wrong answers; the label audit is then measured too."),
]
HoldOut = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.9,
        help="Count accuracy on this share of the crops, never asked for; 0: on all crops without a label.",
    ),
]
KeepEvery = Annotated[
    list[str] | None,
    typer.Option(help="Make one class rare: CLASS=K keeps every K-th of its crops, K of the smallest's."),
]
Limit = Annotated[int | None, typer.Option(min=10, help="Take a sample of this many crops of each data set.")]
Jobs = Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the results here.")]
PlotFile = Annotated[
    Path | None, typer.Option("--plot", help="Plot the learning curves here: .png, .svg or .pdf.")
]
Cache = Annotated[Path, typer.Option(help="Where embeddings are kept.")]


def simulate(
    data: Sources = ["digits"],  # noqa: B006 - Typer copies it
    strategy: Strategies = f"{query.DEFAULT},{BASELINE}",
    encoder: EncoderName = encoders.DEFAULT,
    seeds: Seeds = 10,
    budget: Budget = 100,
    batch_size: BatchSize = 5,
    check_share: CheckShare = 0.1,
    pseudo_labels: PseudoLabels = OnOff.off,
    pre_annotated_share: PreAnnotatedShare = 0.0,
    label_noise: LabelNoise = 0.0,
    hold_out: HoldOut = 0.0,
    keep_every: KeepEvery = None,
    limit: Limit = None,
    jobs: Jobs = 0,
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
    cache: Cache = DEFAULT_CACHE,
) -> None:
    """Replay labelling on crops whose labels are known, and compare query strategies."""
    try:
        if plot_file is not None:
            require_matplotlib()
        strategies = strategy_names(strategy)
        with progress() as report:
            pools = [
                prepare(source, encoder, cache, limit=limit, keep_every=keep_every or (), report=report)
                for source in split_sources(data)
            ]
            base = Task(
                budget=budget,
                batch_size=batch_size,
                check_share=check_share,
                pseudo_labels=pseudo_labels is OnOff.on,
                pre_annotated_share=pre_annotated_share,
                label_noise=label_noise,
                hold_out=hold_out,
                encoder=encoder,
            )
            curves = run_all(
                tasks(base, pools, strategies, range(seeds)), jobs or os.cpu_count() or 1, report
            )
    except (DatasetError, PlotError, ValueError) as error:
        fail(error)
    summaries = summarise(curves, encoder)
    console.print(table(summaries))
    if label_noise > 0:
        console.print(audit_table(summaries))
    if json_file is not None:
        write_json(summaries, json_file, sys.argv[1:])
    if plot_file is not None:
        plot(summaries, plot_file)


def strategy_names(text: str) -> list[str]:
    """Return the requested strategies, each once, and `random` to compare with.

    Raises:
        ValueError: a name is unknown.
    """
    wanted = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in wanted:
        make_strategy(name)
    return wanted if BASELINE in wanted else [*wanted, BASELINE]


def run_all(wanted: Sequence[Task], jobs: int, report: Progress) -> list[Curve]:
    """Run all tasks with a progress bar, and return their curves in the order of `wanted`."""
    found: list[Curve] = []
    report("Replaying", 0, len(wanted))
    for curve in run(wanted, min(jobs, len(wanted))):
        found.append(curve)
        report("Replaying", len(found), len(wanted))
    position = {(task.data, task.strategy, task.seed): place for place, task in enumerate(wanted)}
    return sorted(found, key=lambda curve: position[curve.data, curve.strategy, curve.seed])
