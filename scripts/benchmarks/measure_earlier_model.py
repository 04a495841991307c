"""Measure what a project gains by beginning with an earlier model, and what a model of another task costs it.

`python -m everylabel.scripts.benchmarks.measure_earlier_model --data digits --limit 800` measures a part of the table of
docs/export.md. Half of a data set is the earlier project, and the other half is labelled with its model, without it, and
with one that has its classes mixed up: the same crops and the same seed, so that runs are compared in pairs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from everylabel.model import encoders
from everylabel.model.classifiers.base import Classifier
from everylabel.scripts.console import fail, progress
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.labelled_data import split_sources
from everylabel.scripts.replay.learning_curves import interval
from everylabel.scripts.replay.names import DEFAULT_CACHE
from everylabel.scripts.replay.pools import Pool, prepare
from everylabel.scripts.replay.replay import (
    Curve,
    Task,
    balanced_accuracy,
    classifier_maker,
    hold_out,
    label_pool,
    replay,
)

AT = (10, 25, 50)
SAME, MIXED_UP = "same task", "classes mixed up"


@dataclass(frozen=True)
class Run:
    """One half of a data set, labelled with and without an earlier model."""

    data: str
    seed: int
    unlabelled: float
    """Balanced accuracy of the earlier model on the whole half, before any label."""
    curves: dict[str, Curve]
    """By the earlier model; that without one under an empty name."""


def main(
    data: Annotated[list[str], typer.Option(help="Data sets, as for `everylabel simulate`.")] = ["digits"],  # noqa: B006
    encoder: Annotated[str, typer.Option(help="The encoder, as for `everylabel demo`.")] = encoders.DEFAULT,
    limit: Annotated[
        int | None, typer.Option(min=100, help="Crops of each data set; all if left out.")
    ] = None,
    labels: Annotated[int, typer.Option(min=10, help="Labels of the earlier project.")] = 100,
    seeds: Annotated[int, typer.Option(min=2, help="Runs of each.")] = 8,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    cache: Annotated[Path, typer.Option(help="Where embeddings are kept.")] = DEFAULT_CACHE,
) -> None:
    """Label with and without an earlier model, and print the differences as tables in Markdown."""
    try:
        with progress() as report:
            pools = [
                prepare(source, encoder, cache, limit=limit, report=report) for source in split_sources(data)
            ]
            wanted = [(pool, encoder, labels, seed) for pool in pools for seed in range(seeds)]
            found: list[Run] = []
            with ProcessPoolExecutor(max_workers=jobs, mp_context=get_context("spawn")) as workers:
                for one in workers.map(_run, wanted):
                    found.append(one)
                    report("Labelling", len(found), len(wanted))
    except (DatasetError, ValueError) as error:
        fail(error)
    sys.stdout.write(_table(found))


def _run(wanted: tuple[Pool, str, int, int]) -> Run:
    import torch  # noqa: PLC0415 - takes long to load

    torch.set_num_threads(1)
    pool, encoder, labels, seed = wanted
    truth, make = np.asarray(pool.labels), classifier_maker(encoder)
    rows = np.load(pool.embeddings, mmap_mode="r", allow_pickle=False)[list(pool.rows)]
    before = hold_out(truth, 0.5, seed)
    task = Task(data=pool.data, budget=labels, seed=seed, estimate=True, pseudo_labels=True)
    earlier = label_pool(replace(task, labels=tuple(truth[before].tolist())), rows[before], make()).classifier
    now, there = replace(task, budget=max(AT), labels=tuple(truth[~before].tolist())), rows[~before]
    shown = {"": None, SAME: earlier, MIXED_UP: mixed_up(earlier, make())}
    predicted = np.asarray(earlier.classes_)[earlier.predict_proba(there).argmax(axis=1)]
    return Run(
        pool.data,
        seed,
        balanced_accuracy(truth[~before], predicted),
        {name: replay(now, there, make, one) for name, one in shown.items()},
    )


def mixed_up(classifier: Classifier, fresh: Classifier) -> Classifier:
    """Return the classifier with every class taken for the next one: of the same crops, another task."""
    state = classifier.state()
    moved = {name: np.roll(state[name], 1, axis=-1) for name in ("weights", "bias")}
    return fresh.load_state({**state, **moved})


def _at(curve: Curve, n: int) -> float:
    """Return the accuracy at the first round of so many labels."""
    return next(value for count, value in zip(curve.n_labels, curve.accuracy, strict=True) if count >= n)


def _table(found: Sequence[Run]) -> str:
    head = ["data set", "earlier model", "0 labels", *(f"{n}" for n in AT), "stated accuracy holds"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for data in dict.fromkeys(one.data for one in found):
        runs = [one for one in found if one.data == data]
        for name in ("", SAME, MIXED_UP):
            held = [p.holds for one in runs for p in one.curves[name].estimates]
            cells = [data, name or "none", "-"]
            if name == SAME:
                cells[2] = f"{100 * np.mean([one.unlabelled for one in runs]):.1f}"
            for n in AT:
                values = np.asarray([_at(one.curves[name], n) for one in runs])
                if not name:
                    cells.append(f"{100 * values.mean():.1f}")
                    continue
                apart = values - [_at(one.curves[""], n) for one in runs]
                cells.append(_interval(apart))
            cells.append(f"{np.mean(held):.0%} of {len(held)}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _interval(apart: NDArray[Any]) -> str:
    """Return the mean of paired differences in points, with its 95 % interval."""
    found = interval(apart)
    return f"{100 * found.mean:+.1f} ± {100 * (found.high - found.mean):.1f}"


if __name__ == "__main__":
    typer.run(main)
