"""Options of `everylabel simulate`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from everylabel.model import encoders, query
from everylabel.scripts.cli.options import EmbeddingCache, Processes
from everylabel.scripts.replay.names import BASELINE, DATA_SETS, DEFAULT_CACHE

LIVE_SHARE = 0.1
"""The live backend's share of labels for which a confident crop is served."""


class OnOff(str, Enum):
    """A switch spelled out on the command line."""

    on = "on"
    off = "off"


Sources = Annotated[
    list[str],
    typer.Option(
        help=f"What to replay, repeatable or with commas: {', '.join(DATA_SETS)}, a folder of "
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
PseudoLabels = Annotated[
    OnOff | None,
    typer.Option(help="Train on pseudo-labels too; off, but with --estimate on.", show_default=False),
]
PreAnnotatedShare = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=0.5,
        help="Share of labels that goes to the crops the model is most confident of: 0, but with --estimate 0.1 as in "
        "the live backend.",
        show_default=False,
    ),
]
Estimate = Annotated[
    bool,
    typer.Option(
        "--estimate",
        help="Compare the accuracy that rounds state with the true one, at 25, 50 and 100 labels.",
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
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the results here.")]
PlotFile = Annotated[
    Path | None, typer.Option("--plot", help="Plot the learning curves here: .png, .svg or .pdf.")
]


def simulate(
    data: Sources = [DATA_SETS[0]],  # noqa: B006 - Typer copies it
    strategy: Strategies = f"{query.DEFAULT},{BASELINE}",
    encoder: EncoderName = encoders.DEFAULT,
    seeds: Seeds = 10,
    budget: Budget = 100,
    batch_size: BatchSize = 5,
    check_share: CheckShare = 0.1,
    pseudo_labels: PseudoLabels = None,
    pre_annotated_share: PreAnnotatedShare = None,
    estimate: Estimate = False,
    label_noise: LabelNoise = 0.0,
    hold_out: HoldOut = 0.0,
    keep_every: KeepEvery = None,
    limit: Limit = None,
    jobs: Processes = 0,
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
    cache: EmbeddingCache = DEFAULT_CACHE,
) -> None:
    """Replay labelling on crops whose labels are known, and compare query strategies."""
    from everylabel.scripts.commands import simulate
    from everylabel.scripts.replay.replay import Task

    simulate.run(
        data,
        strategy,
        Task(
            budget=budget,
            batch_size=batch_size,
            check_share=check_share,
            pseudo_labels=estimate if pseudo_labels is None else pseudo_labels is OnOff.on,
            pre_annotated_share=LIVE_SHARE * estimate if pre_annotated_share is None else pre_annotated_share,
            estimate=estimate,
            label_noise=label_noise,
            hold_out=hold_out,
            encoder=encoder,
        ),
        seeds=seeds,
        keep_every=keep_every or (),
        limit=limit,
        jobs=jobs,
        json_file=json_file,
        plot_file=plot_file,
        cache=cache,
    )
