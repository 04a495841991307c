"""Measure what pseudo-labels do where a crop may have several classes.

`python -m everylabel.scripts.benchmarks.measure_several_classes --seeds 10` measures the figures of
docs/learning-parts.md.
"""

from __future__ import annotations

import json
import multiprocessing
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table
from sklearn.metrics import average_precision_score

from everylabel.model import encoders, label_set
from everylabel.model.classifiers.multi_label import MultiLabelClassifier
from everylabel.model.evaluation.accuracy import calibration_error
from everylabel.model.session import ActiveLearningSession
from everylabel.model.threads import single_threaded
from everylabel.scripts.console import console, progress
from everylabel.scripts.replay.embedding_cache import embed
from everylabel.scripts.replay.names import DEFAULT_CACHE
from everylabel.scripts.replay.several_classes import SEVERAL, load_several

MARKS = (25, 50, 100)
CONFIDENT = 0.9
"""From this confidence on a set is counted as stated with confidence."""
MEASURES = ("balanced accuracy", "average precision", "whole set right")
Measures = dict[str, float]


@dataclass(frozen=True)
class Run:
    """One data set, one seed, and how crops are chosen: `auto` or `random`."""

    data: str
    embeddings: Path
    labels: tuple[str, ...]
    strategy: str
    seed: int


def measure(run: Run) -> tuple[Run, dict[int, Measures]]:
    """Label 100 crops; at every mark train without and with pseudo-labels, and say by how much that differs."""
    rows = np.load(run.embeddings, mmap_mode="r", allow_pickle=False)
    found: dict[int, Measures] = {}
    with single_threaded():
        for mark, session in _labelled(run, rows):
            alone, _ = _trained(session, pseudo_labels=False)
            helped, used = _trained(session, pseudo_labels=True)
            before, after = (evaluate(one, session, run.labels) for one in (alone, helped))
            gains = {f"{name} gain": after[name] - before[name] for name in MEASURES}
            helped_by = {f"{name} helped": value for name, value in after.items()}
            found[mark] = before | helped_by | gains | {"used": float(used)}
    return run, found


def evaluate(
    model: ActiveLearningSession, session: ActiveLearningSession, labels: tuple[str, ...]
) -> Measures:
    """Return the measures, in percent, on every crop without a label; a class nobody has labelled is never predicted."""
    classifier = model.classifier
    assert isinstance(classifier, MultiLabelClassifier)  # noqa: S101 - as it was made
    free = np.setdiff1d(np.arange(len(labels)), list(session.labels))
    rows = np.asarray(session.pool[free])
    names = sorted({name for label in labels for name in label_set.split(label)})
    known = np.searchsorted(names, classifier.names_)
    truth = held(np.asarray(labels)[free], names)
    probable, predicted = np.zeros(truth.shape), np.zeros(truth.shape, dtype=bool)
    probable[:, known] = classifier.marginals(rows)
    probabilities = classifier.predict_proba(rows)
    predicted[:] = held([classifier.classes_[code] for code in probabilities.argmax(axis=1)], names)
    right = predicted == truth
    whole = right.all(axis=1)
    balanced = [
        (right[has, column].mean() + right[~has, column].mean()) / 2 for column, has in enumerate(truth.T)
    ]
    precision = [average_precision_score(has, probable[:, column]) for column, has in enumerate(truth.T)]
    of_measures = (100 * float(np.mean(one)) for one in (balanced, precision, whole))
    confidence = probabilities.max(axis=1)
    return dict(zip(MEASURES, of_measures, strict=True)) | {
        "ece": calibration_error(confidence, whole),
        "confident": float((confidence >= CONFIDENT).sum()),
        "confident right": float(whole[confidence >= CONFIDENT].sum()),
    }


def held(labels: Any, names: list[str]) -> NDArray[Any]:
    """Return which classes each label set has: (n, k) bool."""
    sets = [label_set.split(str(label)) for label in labels]
    return np.asarray([[name in one for name in names] for one in sets])


def _classifier() -> MultiLabelClassifier:
    made = encoders.create(encoders.DEFAULT, device="cpu", threads=1).make_classifier()
    return MultiLabelClassifier(space=made.space)


def _labelled(run: Run, rows: NDArray[Any]) -> Iterator[tuple[int, ActiveLearningSession]]:
    session = ActiveLearningSession(
        rows,
        classifier=_classifier(),
        strategy=run.strategy,
        train_on_pseudo_labels=False,
        seed=run.seed,
    )
    for mark in MARKS:
        while len(session.labels) < mark:
            asked = session.get_next_batch()[: mark - len(session.labels)]
            session.add_labels(asked, [run.labels[index] for index in asked])
        yield mark, session


def _trained(session: ActiveLearningSession, *, pseudo_labels: bool) -> tuple[ActiveLearningSession, int]:
    other = ActiveLearningSession(
        session.pool, classifier=_classifier(), train_on_pseudo_labels=pseudo_labels, seed=session.seed
    )
    other.set_check_crops(session.check_crops)
    other.add_labels(session.labels.keys(), session.labels.values())
    return other, other.run_round(audit=False).trained_on_pseudo_labels


def main(
    seeds: Annotated[int, typer.Option(min=2, help="Runs of each data set.")] = 10,
    limit: Annotated[int, typer.Option(min=200, help="Crops taken of each data set.")] = 1500,
    data: Annotated[list[str] | None, typer.Option(help="Only these data sets.")] = None,
    chosen: Annotated[str, typer.Option(help="The query strategy that chooses the crops.")] = "auto",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    json_file: Annotated[Path, typer.Option("--json", help="Where results go.")] = Path(
        "several-classes.json"
    ),
    cache: Annotated[Path, typer.Option(help="Where embeddings are kept.")] = DEFAULT_CACHE,
) -> None:
    """Measure pseudo-labels of several classes a crop, on sets made for it."""
    encoder = encoders.create(encoders.DEFAULT)
    values: dict[tuple[str, int], list[Measures]] = defaultdict(list)
    with progress() as report:
        runs = []
        for name in data or SEVERAL:
            crops = load_several(name, cache, limit)
            path = embed(crops, encoder, cache, lambda done, total: report("Encoding", done, total))
            runs += [Run(name, path, crops.labels, chosen, seed) for seed in range(seeds)]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context) as workers:
            for done, (run, found) in enumerate(workers.map(measure, runs), start=1):
                report("Measuring", done, len(runs))
                for mark, measures in found.items():
                    values[run.data, mark].append(measures)
                _write(values, limit, chosen, json_file)  # an interrupted run leaves its results
    console.print(_table(values))


def _write(values: Mapping[tuple[str, int], list[Measures]], limit: int, chosen: str, target: Path) -> None:
    results = [{"data": name, "labels": mark, "runs": runs} for (name, mark), runs in values.items()]
    target.write_text(json.dumps({"limit": limit, "chosen": chosen, "results": results}, indent=1))


def _table(values: Mapping[tuple[str, int], list[Measures]]) -> Table:
    table = Table("data", "labels", *MEASURES, f"right at {CONFIDENT}", "with them", "ECE", "crops used")
    for (name, mark), runs in values.items():
        cells = [
            f"{_mean(runs, one)[0]:.1f} {_mean(runs, f'{one} gain')[0]:+.2f} ± {_mean(runs, f'{one} gain')[1]:.2f}"
            for one in MEASURES
        ]
        for way in ("", " helped"):
            stated = _mean(runs, f"confident{way}")[0]
            cells.append(f"{_mean(runs, f'confident right{way}')[0] / max(stated, 1):.2f} of {stated:.0f}")
        eces = " ".join(f"{_mean(runs, f'ece{way}')[0]:.3f}" for way in ("", " helped"))
        table.add_row(name, str(mark), *cells, eces, f"{_mean(runs, 'used')[0]:.0f}")
    return table


def _mean(runs: list[Measures], name: str) -> tuple[float, float]:
    """Return the mean over runs and the half width of its 95 % interval."""
    known = np.asarray([run[name] for run in runs])
    return float(known.mean()), 1.96 * float(known.std(ddof=1)) / float(np.sqrt(len(known)))


if __name__ == "__main__":
    typer.run(main)
