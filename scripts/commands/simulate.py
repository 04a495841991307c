"""`everylabel simulate`: replay labelling on crops whose labels are known, and compare strategies."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from everylabel.backend.services import Progress
from everylabel.model import encoders, query
from everylabel.scripts.console import console, fail, progress
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.embedding_cache import embed
from everylabel.scripts.replay.labelled_data import load, split_sources, thin
from everylabel.scripts.replay.learning_curves import BASELINE, Summary, summarise
from everylabel.scripts.replay.learning_plot import PlotError, plot, require_matplotlib
from everylabel.scripts.replay.replay import PEER_PREFIX, Curve, Task, make_strategy, run

DEFAULT_CACHE = Path.home() / ".cache" / "everylabel"


class OnOff(str, Enum):
    """A switch that is written out."""

    on = "on"
    off = "off"


@dataclass(frozen=True)
class Pool:
    """A data set as runs see it: where its embeddings lie, and which of them are in it."""

    data: str
    embeddings: Path
    rows: tuple[int, ...]
    labels: tuple[str, ...]


def simulate(
    data: Annotated[
        list[str],
        typer.Option(
            help="What to replay, repeatable or with commas: digits, solar-cells, fashion, animals, a folder of "
            "class folders, a .csv of paths and labels, an .npz with x and y. `:` selects classes: "
            "fashion:shirt,coat."
        ),
    ] = ["digits"],  # noqa: B006 - Typer copies it
    strategy: Annotated[
        str, typer.Option(help=f"Query strategies with commas, from {', '.join(query.names())}.")
    ] = f"{query.DEFAULT},{BASELINE}",
    encoder: Annotated[str, typer.Option(help="The encoder, as for `everylabel demo`.")] = encoders.DEFAULT,
    seeds: Annotated[
        int, typer.Option(min=1, help="Runs of each strategy; intervals need two or more.")
    ] = 10,
    budget: Annotated[int, typer.Option(min=1, help="Labels to spend in a run.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Labels between two trainings.")] = 5,
    check_share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of blind random check labels, counted as labels.")
    ] = 0.1,
    pseudo_labels: Annotated[OnOff, typer.Option(help="Train on confident guesses too.")] = OnOff.off,
    pre_annotated_share: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.5,
            help="Share of labels that goes to the crops the model is surest of, as in the live backend.",
        ),
    ] = 0.0,
    label_noise: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Share of wrong answers; the label audit is then judged too."),
    ] = 0.0,
    hold_out: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.9,
            help="Count accuracy on this share of the crops, never asked for; 0: on all crops without a label.",
        ),
    ] = 0.0,
    keep_every: Annotated[
        list[str] | None,
        typer.Option(help="Make one class rare: CLASS=K keeps every K-th of its crops, K of the smallest's."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=10, help="Take a sample of this many crops of each data set.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="Draw the learning curves here: .png, .svg or .pdf.")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Where embeddings are kept.")] = DEFAULT_CACHE,
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
    """The strategies asked for, each once, and random to compare with. Raises ValueError."""
    wanted = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in wanted:
        make_strategy(name)
    return wanted if BASELINE in wanted else [*wanted, BASELINE]


def prepare(
    source: str,
    encoder: str,
    cache: Path,
    *,
    limit: int | None = None,
    keep_every: Sequence[str] = (),
    report: Progress,
) -> Pool:
    """Load and encode one data set; thinning comes after, so that a thinned one needs no encoding."""
    crops = load(source, cache, limit=limit)
    made = encoders.create(encoder)
    path = embed(crops, made, cache, lambda done, total: report(f"Encoding {crops.name}", done, total))
    rows: NDArray[Any] = np.arange(len(crops))
    for rule in keep_every:
        crops, kept = thin(crops, rule)
        rows = rows[kept]
    return Pool(crops.name, path, tuple(rows.tolist()), crops.labels)


def tasks(base: Task, pools: Sequence[Pool], strategies: Sequence[str], seeds: Sequence[int]) -> list[Task]:
    """Every run, all strategies of a seed side by side."""
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


def run_all(wanted: Sequence[Task], jobs: int, report: Progress) -> list[Curve]:
    """Run them with a progress bar; the order of the answer does not depend on `jobs`."""
    found: list[Curve] = []
    report("Replaying", 0, len(wanted))
    for curve in run(wanted, min(jobs, len(wanted))):
        found.append(curve)
        report("Replaying", len(found), len(wanted))
    position = {(task.data, task.strategy, task.seed): place for place, task in enumerate(wanted)}
    return sorted(found, key=lambda curve: position[curve.data, curve.strategy, curve.seed])


def table(summaries: Sequence[Summary]) -> Table:
    """Results as a person reads them: percent, and points gained over random."""
    shown = Table(
        title="Balanced accuracy in %, and points gained over random",
        caption="AULC: mean over all rounds. Gain: AULC minus random's on the same seeds, 95 % interval. "
        "Saved: labels random needs more of for the same accuracy.",
    )
    marks = list(dict.fromkeys(n for summary in summaries for n in summary.accuracy))
    for column in ("data", "strategy", *(str(n) for n in sorted(marks)), "AULC", "gain", "saved"):
        is_name = column in ("data", "strategy")
        shown.add_column(
            column,
            justify="left" if is_name else "right",
            overflow="fold",
            no_wrap=not is_name and column != "gain",
            min_width=9 if is_name else None,
        )
    before = None
    for summary in summaries:
        if before not in (None, summary.data):
            shown.add_section()
        gain = "" if summary.strategy == BASELINE else points(summary)
        saved = "" if summary.strategy == BASELINE else f"{summary.labels_saved:.0f}"
        shown.add_row(
            escape(summary.data) if summary.data != before else "",
            summary.strategy.removeprefix(PEER_PREFIX),
            *(f"{summary.accuracy[n]:.1%}"[:-1] if n in summary.accuracy else "" for n in sorted(marks)),
            f"{summary.aulc * 100:.1f}",
            gain,
            saved,
        )
        before = summary.data
    return shown


def audit_table(summaries: Sequence[Summary]) -> Table:
    """How well the label audit found the wrong answers: a table of its own, for both hold at 80 columns."""
    shown = Table(
        title="Label audit",
        caption="AUROC: how well it ranks wrong answers before right ones. Precision: the share of wrong answers "
        "among those it lists.",
    )
    for column in ("data", "strategy"):
        shown.add_column(column, overflow="fold", min_width=9)
    for column in ("AUROC", "precision"):
        shown.add_column(column, justify="right", no_wrap=True)
    for summary in summaries:
        found = (summary.audit_auroc, summary.audit_precision)
        shown.add_row(
            escape(summary.data),
            summary.strategy.removeprefix(PEER_PREFIX),
            *("" if math.isnan(value) else f"{value:.2f}" for value in found),
        )
    return shown


def points(summary: Summary) -> str:
    """The gain in points: `+4.1 (+3.2 … +5.0)`."""
    gain = summary.gain
    if math.isnan(gain.low):
        return f"{gain.mean * 100:+.1f}"
    return f"{gain.mean * 100:+.1f} ({gain.low * 100:+.1f} … {gain.high * 100:+.1f})"


def as_json(summaries: Sequence[Summary], arguments: Sequence[str]) -> dict[str, Any]:
    """What `--json` holds: `results` in one fixed form, and `details` with what else was measured."""
    return {
        "command": _command(arguments),
        "unit": "accuracy, aulc and gain are shares from 0 to 1; gain is aulc minus random's, paired by seed",
        "results": [summary.result() for summary in summaries],
        "details": [summary.details() for summary in summaries],
    }


def _command(arguments: Sequence[str]) -> str:
    """The command as anyone can repeat it: without where files lay, and how many processes there were."""
    kept = ["everylabel"]
    skip = False
    for argument in arguments:
        local = argument.partition("=")[0] in ("--cache", "--keep", "--out", "--json", "--plot", "--jobs")
        if not skip and not local:
            kept.append(argument)
        skip = local and "=" not in argument
    return " ".join(kept)


def write_json(summaries: Sequence[Summary], path: Path, arguments: Sequence[str]) -> None:
    """Write `as_json` as a file that `git diff` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(summaries, arguments), indent=1) + "\n", encoding="utf-8")
