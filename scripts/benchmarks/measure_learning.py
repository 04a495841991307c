"""Measure everything that learns from the labels: classifier, pseudo-labels, label audit and check set.

`python -m everylabel.scripts.benchmarks.measure_learning --seeds 20` measures the figures of docs/learning-parts.md.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from everylabel.model import encoders
from everylabel.model.classifiers.base import Classifier
from everylabel.model.evaluation.accuracy import calibration_error
from everylabel.model.label_quality.folds import stratified_folds
from everylabel.model.label_quality.label_errors import audit_labels
from everylabel.model.pool import MappedRows
from everylabel.model.pseudo_labels.pool_graph import PoolGraph
from everylabel.model.session import ActiveLearningSession
from everylabel.model.threads import single_threaded
from everylabel.scripts.console import console, progress
from everylabel.scripts.replay.names import DEFAULT_CACHE
from everylabel.scripts.replay.pools import Pool, prepare
from everylabel.scripts.replay.replay import balanced_accuracy, flip

MARKS = (10, 25, 50, 100)
NOISE = 0.1
SETS = (
    ("digits", ()),
    ("animals", ()),
    ("fashion", ()),
    ("fashion:shirt,coat", ()),
    ("fashion:shirt,coat", ("coat=12",)),
    ("solar-cells", ()),
)
Measures = dict[str, float]


@dataclass(frozen=True)
class Run:
    """One data set, one seed, and how crops are chosen: `active` by the default strategy, or `random`."""

    pool: Pool
    seed: int
    chosen: str


def measure(run: Run) -> tuple[str, str, Measures]:
    """Label 100 crops and measure at every mark; then repeat with one wrong answer in ten, and audit.

    Returns:
        The data set, how crops were chosen, and every measure by its name.
    """
    rows = np.load(run.pool.embeddings, mmap_mode="r", allow_pickle=False)[list(run.pool.rows)]
    truth = np.asarray(run.pool.labels)
    found: Measures = {}
    with single_threaded():
        for n_labels, session in _labelled(run, rows, truth):
            found |= {f"{name}@{n_labels}": value for name, value in _evaluate(session, truth).items()}
        noisy = flip(truth, NOISE, run.seed)
        for n_labels, session in _labelled(run, rows, noisy):
            if n_labels == MARKS[-1]:
                found |= {f"audit {name}": value for name, value in _audited(session, truth).items()}
    return run.pool.data, run.chosen, found


def _head() -> Classifier:
    return encoders.create(encoders.DEFAULT, device="cpu", threads=1).make_classifier()


def _labelled(
    run: Run, rows: NDArray[Any], answers: NDArray[Any]
) -> Iterator[tuple[int, ActiveLearningSession]]:
    session = ActiveLearningSession(
        rows,
        classifier=_head(),
        strategy="random" if run.chosen == "random" else "auto",
        train_on_pseudo_labels=False,
        seed=run.seed,
    )
    for mark in MARKS:
        while len(session.labels) < mark:
            asked = session.get_next_batch()[: mark - len(session.labels)]
            session.add_labels(asked, answers[asked].tolist())
        yield mark, session


def _evaluate(session: ActiveLearningSession, truth: NDArray[Any]) -> Measures:
    """Evaluate both models, without and with pseudo-labels, on every crop that has no label."""
    labels = session.labels
    if len(set(labels.values())) < 2:
        return {}
    free = np.setdiff1d(np.arange(len(truth)), list(labels))
    found: Measures = {}
    for suffix, use in (("", False), (" pseudo", True)):
        other = ActiveLearningSession(
            session.pool, classifier=_head(), train_on_pseudo_labels=use, seed=session.seed
        )
        other.set_check_crops(session.check_crops)
        other.add_labels(labels.keys(), labels.values())
        outcome = other.run_round()
        assert outcome.probabilities is not None  # noqa: S101 - two classes are known
        probabilities = outcome.probabilities[free]
        confidence = probabilities.max(axis=1)
        predicted = np.asarray(outcome.classes)[probabilities.argmax(axis=1)]
        right = predicted == truth[free]
        confident = confidence >= 0.9
        found[f"accuracy{suffix}"] = 100 * balanced_accuracy(truth[free], predicted)
        found[f"ece{suffix}"] = calibration_error(confidence, right)
        found[f"confident{suffix}"] = float(confident.sum())
        found[f"confident right{suffix}"] = float(right[confident].sum())
        found[f"round seconds{suffix}"] = sum(outcome.seconds.values())
        found["accepted"] = float(outcome.trained_on_pseudo_labels > 0)
        if outcome.check_set is not None:
            check = outcome.check_set
            found[f"covered{suffix}"] = float(check.low <= right.mean() <= check.high)
            found[f"check error{suffix}"] = 100 * (check.estimate - right.mean())
            found["check width"] = 100 * (check.high - check.low)
    classifier = _head().adapt(session.pool)
    known = session.pool[list(labels)]
    start = time.perf_counter()
    classifier.fit(known, list(labels.values()))
    found["fit ms"] = 1000 * (time.perf_counter() - start)
    return found


def _audited(session: ActiveLearningSession, truth: NDArray[Any]) -> Measures:
    labeled = np.fromiter(session.labels, dtype=np.intp)
    given = list(session.labels.values())
    flipped = truth[labeled] != np.asarray(given)
    if len(set(given)) < 2 or not 0 < flipped.sum() < len(flipped):
        return {}
    rows = session.pool[labeled]
    classifier = _head().adapt(session.pool)
    features = MappedRows(session.pool, classifier.features)
    graph = PoolGraph.build(features, labeled, np.arange(len(truth)))
    smoothed = None if graph is None else graph.smoothed(graph.positions(labeled))
    ours = audit_labels(rows, given, classifier=classifier, smoothed=smoothed)
    listed = [issue.index for issue in ours.issues]
    in_sample, crossed = _logistic(classifier.features(rows), given)
    return {
        "auroc": float(roc_auc_score(flipped, ours.wrong)),
        "auroc in-sample": float(roc_auc_score(flipped, -in_sample)),
        "auroc cross-validated": float(roc_auc_score(flipped, -crossed)),
        "precision": float(flipped[listed].mean()) if listed else float("nan"),
        "length": float(len(listed)),
        "flipped": float(flipped.sum()),
    }


def _logistic(x: NDArray[Any], given: list[str]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the self-confidence of every label under logistic regression: in-sample, and by five folds."""
    classes, codes = np.unique(given, return_inverse=True)
    model = LogisticRegression(C=10, class_weight="balanced", max_iter=500)
    own = np.arange(len(codes))
    in_sample = model.fit(x, codes).predict_proba(x)[own, codes]
    crossed = np.zeros((len(codes), len(classes)))
    folds = stratified_folds(codes, 5)
    for fold in range(5):
        model.fit(x[folds != fold], codes[folds != fold])
        crossed[np.ix_(folds == fold, model.classes_)] = model.predict_proba(x[folds == fold])
    return in_sample, crossed[own, codes]


def main(
    seeds: Annotated[int, typer.Option(min=2, help="Runs of each data set.")] = 20,
    limit: Annotated[int, typer.Option(min=200, help="Crops taken of each data set.")] = 2000,
    chosen: Annotated[str, typer.Option(help="Who chooses the crops: active, random, or both.")] = "both",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    json_file: Annotated[Path, typer.Option("--json", help="Where results go.")] = Path("learning.json"),
    cache: Annotated[Path, typer.Option(help="Where embeddings are kept.")] = DEFAULT_CACHE,
) -> None:
    """Measure head, pseudo-labels, audit and check set on the development sets."""
    ways = ("active", "random") if chosen == "both" else (chosen,)
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with progress() as report:
        pools = [
            prepare(name, encoders.DEFAULT, cache, limit=limit, keep_every=thin, report=report)
            for name, thin in SETS
        ]
        runs = [Run(pool, seed, way) for seed in range(seeds) for way in ways for pool in pools]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context) as workers:
            for done, (data, way, found) in enumerate(workers.map(measure, runs), start=1):
                report("Measuring", done, len(runs))
                for name, value in found.items():
                    values[data, way][name].append(value)
                if (
                    done % (len(pools) * len(ways)) == 0
                ):  # a seed is whole: an interrupted run leaves its results
                    _write(values, limit, json_file)
    console.print(f"Wrote {json_file}")


def _write(values: Mapping[tuple[str, str], dict[str, list[float]]], limit: int, target: Path) -> None:
    results = []
    for (data, way), lists in values.items():
        gains = {
            f"pseudo gain@{mark}": np.subtract(
                lists[f"accuracy pseudo@{mark}"], lists[f"accuracy@{mark}"]
            ).tolist()
            for mark in MARKS
        }
        measures = {name: _mean(runs) for name, runs in (lists | gains).items()}
        results.append({"data": data, "chosen": way, "measures": measures})
    target.write_text(json.dumps({"limit": limit, "results": results}, indent=1))


def _mean(values: list[float]) -> dict[str, float]:
    """Return the mean over runs and the half width of its 95 % interval."""
    known = np.asarray([value for value in values if np.isfinite(value)])
    if not len(known):
        return {"mean": float("nan"), "ci": float("nan"), "n": 0}
    spread = float(known.std(ddof=1)) if len(known) > 1 else float("nan")
    return {
        "mean": float(known.mean()),
        "ci": 1.96 * spread / float(np.sqrt(len(known))),
        "n": float(len(known)),
    }


if __name__ == "__main__":
    typer.run(main)
