"""Keystrokes a label on the page: labelling replayed page by page, with the model's own predictions.

    python -m tests.measure.keystrokes digits fashion animals --limit 2000
    python -m tests.measure.keystrokes digit-traits digits-together solar-cells-kinds --limit 1500 --seeds 3

After 50 labels, given as the live backend asks for them, a person labels pages of a class as `/projects/7/label` makes them
(the same code chooses the crops, from the same map), and corrects every exception; the model learns from each page before the
next. An exception costs the key of its class, with the pointer on the crop, and a page costs `Enter`. Where a crop has several
classes (`several_classes_crops`), it costs a key for each class that its predicted set lacks or has too many. The time is that of the
keystroke-level model of Card, Moran and Newell (1983): a key 0.28 s, pointing 1.1 s, a mental step 1.35 s, and for each crop an
eye movement of 0.23 s, which the model itself leaves out. It tells what a practised person who makes no slip would need.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from everylabel.backend.label_pages.choosing import (
    PredictedCrops,
    best_class,
    choose_of_class,
)
from everylabel.backend.store import pool_map
from everylabel.model import encoders, label_set
from everylabel.model.classifiers.multi_label import MultiLabelClassifier
from everylabel.scripts.replay.embedding_cache import embed
from everylabel.scripts.replay.names import DEFAULT_CACHE
from everylabel.scripts.replay.pools import Pool, prepare
from everylabel.scripts.replay.replay import Task, classifier_maker, label_pool
from tests.measure.several_classes_crops import SETS, of_several_classes

KEY, POINT, MENTAL, LOOK = 0.28, 1.1, 1.35, 0.23
"""Seconds: K, P and M of the keystroke-level model, and an eye movement."""
FORM_KEYS, FORM_LOAD = 2, 0.5
"""Label Studio's form with `connect --hotkeys`: class and Enter; half a second until the next crop is there, assumed."""


@dataclass
class Count:
    """The cost of pages so far."""

    labels: int = 0
    pages: int = 0
    exceptions: int = 0
    """Crops that are corrected."""
    corrections: int = 0
    """Keys that correct them: one each where a crop has one class."""

    @property
    def keys(self) -> int:
        """Keys and clicks."""
        return self.pages + self.corrections

    @property
    def seconds(self) -> float:
        """The time they take by the keystroke-level model."""
        corrections = self.exceptions * (MENTAL + POINT) + self.corrections * KEY
        return self.labels * LOOK + self.pages * (MENTAL + KEY) + corrections


def label_by_pages(pool: Pool, seed: int, first: int, more: int, positions: NDArray[Any]) -> Count:
    """Label `first` crops as the live backend asks for them, then at least `more` by pages."""
    rows = np.load(pool.embeddings, mmap_mode="r", allow_pickle=False)[list(pool.rows)]
    truth = np.asarray(pool.labels)
    task = Task(
        labels=pool.labels, seed=seed, budget=first, pre_annotated_share=0.1, rows=tuple(range(len(truth)))
    )
    several = pool.data.split("#")[0] in SETS
    classifier = classifier_maker(encoders.DEFAULT)()
    if several:
        assert classifier.space is not None
        classifier = MultiLabelClassifier(space=classifier.space)
    session = label_pool(task, rows, classifier)
    count = Count()
    while count.labels < more:
        found = session.run_round(audit=False)
        labels = tuple(session.classifier.classes_)
        classes = tuple(
            dict.fromkeys(name for label in labels for name in session.classifier.classes_in(label))
        )
        closed = {*session.labels, *session.check_crops}
        crops = PredictedCrops(
            np.arange(len(truth)),
            found.probabilities.argmax(axis=1),
            found.probabilities.max(axis=1),
            positions,
            labels,
            several,
        ).without(closed)
        if (wanted := best_class(crops, classes)) is None:
            break
        page = choose_of_class(crops.of(wanted))
        wrong = [differing(told, truth[task], several=several) for task, told in crops.labels(page).items()]
        count.labels += len(page)
        count.pages += 1
        count.exceptions += sum(n > 0 for n in wrong)
        count.corrections += sum(wrong)
        session.add_labels(page, truth[page].tolist())
    return count


def differing(told: str, true: str, *, several: bool) -> int:
    """Return how many keys turn a predicted label into the true one."""
    if not several:
        return int(told != true)
    return len({*label_set.split(told)} ^ {*label_set.split(true)})


def pool_of(source: str, cache: Path, limit: int | None) -> Pool:
    """Return a data set of one class a crop, or of several, with its embeddings."""
    if source not in SETS:
        return prepare(source, encoders.DEFAULT, cache, limit=limit, report=lambda *_: None)
    crops = of_several_classes(source, cache, limit)
    embeddings = embed(crops, encoders.create(encoders.DEFAULT), cache)
    return Pool(crops.name, embeddings, tuple(range(len(crops))), crops.labels)


def positions_of(pool: Pool) -> NDArray[Any]:
    """Return where the crops lie on the map, as the page has it."""
    rows = np.load(pool.embeddings, mmap_mode="r", allow_pickle=False)[list(pool.rows)]
    with tempfile.TemporaryDirectory(prefix="everylabel-map-") as folder:
        pool_map.draw(Path(folder), "rows", rows, np.arange(len(rows)))
        drawn = pool_map.load(Path(folder))
        assert drawn is not None
        return drawn.positions


def measure(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Data sets, as `everylabel simulate --data` takes them, or of several classes a crop."
        ),
    ],
    first: Annotated[int, typer.Option(help="Labels before the first page.")] = 50,
    more: Annotated[int, typer.Option(help="Labels given by pages.")] = 500,
    seeds: Annotated[int, typer.Option(help="Runs of each data set.")] = 5,
    limit: Annotated[int | None, typer.Option(help="Crops sampled of each data set.")] = None,
    cache: Annotated[Path, typer.Option(help="Where embeddings are kept.")] = DEFAULT_CACHE,
) -> None:
    """Replay labelling by pages, and print keystrokes a label and labels a minute."""
    by_form = 60 / (LOOK + MENTAL + FORM_KEYS * KEY + FORM_LOAD)
    typer.echo(
        "| data | crops | keys and clicks a label (lowest to highest) | exceptions a page | labels a minute |"
    )
    typer.echo("|---|---|---|---|---|")
    every = []
    for source in data:
        pool = pool_of(source, cache, limit)
        positions = positions_of(pool)
        runs = [label_by_pages(pool, seed, first, more, positions) for seed in range(seeds)]
        each = [run.keys / run.labels for run in runs]
        every.append(float(np.mean(each)))
        wrong = sum(run.exceptions for run in runs) / sum(run.pages for run in runs)
        minute = 60 * sum(run.labels for run in runs) / sum(run.seconds for run in runs)
        typer.echo(
            f"| {pool.data} | {len(pool.labels):,} | **{np.mean(each):.3f}** ({min(each):.3f} to {max(each):.3f}) "
            f"| {wrong:.1f} | {minute:.0f} |",
        )
    typer.echo(
        f"\nOn average {np.mean(every):.3f}. Label Studio's form: {FORM_KEYS} keys, {by_form:.0f} labels a minute."
    )


if __name__ == "__main__":
    typer.run(measure)
