"""`everylabel simulate`: replay labelling on crops whose labels are known, and compare strategies."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from everylabel.backend.progress import Progress
from everylabel.scripts.console import console, fail, progress
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.estimates import estimate_table, estimates_as_json
from everylabel.scripts.replay.labelled_data import split_sources
from everylabel.scripts.replay.learning_curves import summarise
from everylabel.scripts.replay.learning_plot import PlotError, plot, require_matplotlib
from everylabel.scripts.replay.learning_tables import audit_table, table, write_json
from everylabel.scripts.replay.names import BASELINE
from everylabel.scripts.replay.pools import prepare, tasks
from everylabel.scripts.replay.replay import Curve, Task, make_strategy
from everylabel.scripts.replay.replay import run as replay


def run(
    data: Sequence[str],
    strategy: str,
    base: Task,
    *,
    seeds: int,
    keep_every: Sequence[str],
    limit: int | None,
    jobs: int,
    json_file: Path | None,
    plot_file: Path | None,
    cache: Path,
) -> None:
    """Replay labelling with each strategy on each data set, and show and write what it has brought.

    Args:
        data: data sets and files, as `split_sources` takes them.
        strategy: query strategies with commas.
        base: what all runs have in common; data, strategy and seed are filled in.
        seeds: runs of each strategy.
        keep_every: rules to make a class rare, as `labelled_data.thin` takes them.
        limit: how many crops to sample of each data set.
        jobs: processes; 0 for one a core.
        json_file: where the results go.
        plot_file: where the learning curves go.
        cache: where embeddings are kept.
    """
    try:
        if plot_file is not None:
            require_matplotlib()
        strategies = strategy_names(strategy)
        with progress() as report:
            pools = [
                prepare(source, base.encoder, cache, limit=limit, keep_every=keep_every, report=report)
                for source in split_sources(data)
            ]
            curves = run_all(
                tasks(base, pools, strategies, range(seeds)), jobs or os.cpu_count() or 1, report
            )
    except (DatasetError, PlotError, ValueError) as error:
        fail(error)
    summaries = summarise(curves, base.encoder)
    console.print(table(summaries))
    if base.label_noise > 0:
        console.print(audit_table(summaries))
    if base.estimate:
        console.print(estimate_table(curves))
    if json_file is not None:
        more = {"estimates": estimates_as_json(curves)} if base.estimate else {}
        write_json(summaries, json_file, sys.argv[1:], more)
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
    for curve in replay(wanted, min(jobs, len(wanted))):
        found.append(curve)
        report("Replaying", len(found), len(wanted))
    position = {(task.data, task.strategy, task.seed): place for place, task in enumerate(wanted)}
    return sorted(found, key=lambda curve: position[curve.data, curve.strategy, curve.seed])
