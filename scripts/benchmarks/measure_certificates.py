"""Measure certificates: how often the accepted labels are worse than stated, and how many looks they take.

`python -m everylabel.scripts.benchmarks.measure_certificates --data digits,solar-cells` measures the table of docs/accepting.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from everylabel.model import encoders
from everylabel.scripts.console import console, fail, progress
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.labelled_data import split_sources
from everylabel.scripts.replay.names import DEFAULT_CACHE
from everylabel.scripts.replay.pools import Pool, prepare, tasks
from everylabel.scripts.replay.replay import Task, classifier_maker
from everylabel.scripts.replay.spot_checks import FrozenLabels, SpotCheck, freeze, spot_check

FEW_LOOKS = 250
"""The looks, labels included, that a certificate should not take on an easy data set."""
LARGE = 0.8
"""The share of the pool that it should then certify."""


def main(
    data: Annotated[list[str], typer.Option(help="Data sets, as for `everylabel simulate`.")] = ["digits"],  # noqa: B006
    labels: Annotated[int, typer.Option(min=10, help="Labels before the spot check.")] = 80,
    max_error: Annotated[
        list[float] | None, typer.Option(help="Repeatable; 0.02 and 0.05 by default.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Times the pool is labelled anew.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Spot checks of each labelling.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every run here.")] = None,
    cache: Annotated[Path, typer.Option(help="Where embeddings are kept.")] = DEFAULT_CACHE,
) -> None:
    """Certify the machine labels of data sets whose true labels are known."""
    table = Table(title=f"{seeds * repeats} spot checks a row, after {labels} labels")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    runs = []
    try:
        with progress() as report:
            for source in split_sources(data):
                pool = prepare(source, encoders.DEFAULT, cache, report=report)
                frozen = []
                for seed in range(seeds):
                    report(f"Labelling {pool.data}", seed, seeds)
                    frozen.append(_freeze(pool, labels, seed))
                for error in max_error or (0.02, 0.05):
                    found = []
                    for run in range(seeds * repeats):
                        report(f"Checking {pool.data} at {error:.0%}", run, seeds * repeats)
                        found.append(spot_check(frozen[run % seeds], error, run))
                    table.add_row(pool.data, f"{error:.0%}", *_row(found, error, labels))
                    runs += [
                        {"data": pool.data, "labels": labels, "max_error": error, **asdict(r)} for r in found
                    ]
    except (DatasetError, ValueError) as error:
        fail(error)
    console.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


def _freeze(pool: Pool, labels: int, seed: int) -> FrozenLabels:
    base = Task(budget=labels, pseudo_labels=True, pre_annotated_share=0.1)
    (task,) = tasks(base, [pool], [base.strategy], [seed])
    rows = np.load(pool.embeddings, mmap_mode="r", allow_pickle=False)[list(pool.rows)]
    return freeze(task, rows, classifier_maker(task.encoder))


_COLUMNS = (
    "data set", "max. error", "certified", "share certified", "share accepted", "looks, median", "mean",
    f"≥ {LARGE:.0%} in ≤ {FEW_LOOKS}", "sets worse", "accepted worse",
)  # fmt: skip


def _row(found: Sequence[SpotCheck], max_error: float, labels: int) -> list[str]:
    """Return a row of the table; looks include the labels given before."""
    looks = np.asarray([run.looks for run in found]) + labels
    certified = np.asarray([run.certified for run in found])
    shares = (
        certified > 0,
        certified,
        [run.accepted for run in found],
        (certified >= LARGE) & (looks <= FEW_LOOKS),
        [run.set_error > max_error + 1e-9 for run in found],
        [run.accepted_error > max_error + 1e-9 for run in found],
    )
    some, share, accepted, easy, sets, worse = (f"{np.mean(values):.1%}" for values in shares)
    return [some, share, accepted, f"{np.median(looks):.0f}", f"{looks.mean():.0f}", easy, sets, worse]


if __name__ == "__main__":
    typer.run(main)
