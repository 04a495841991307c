"""How near `everylabel encoders` comes to what a switch of the encoder truly brings.

    python -m everylabel.scripts.benchmarks.measure_encoder_advice --seeds 8

labels pools with one encoder in use, as the live backend does, and compares others with it at 25, 50 and 100 labels, as the
command does: by the labels so far and 300 other crops. The truth is the change of balanced accuracy on all crops without a
label. Encoders are EfficientNet-Lite0, Lite2, and parts of Lite0's rows, which are truly worse. For each number of labels
are printed the error of the stated difference (root mean square), how often the interval holds the true one, how often the
better one is named where they differ by three points or more, and how often a difference is claimed: where there is one of
three points, and where there is none of one point.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

from everylabel.model import encoders
from everylabel.model.classifiers.base import Classifier
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.evaluation.encoder_comparison import (
    LEAST_OF_A_CLASS,
    OutOfFold,
    predict_out_of_fold,
)
from everylabel.scripts.console import console, progress
from everylabel.scripts.replay.embedding_cache import embed
from everylabel.scripts.replay.labelled_data import LabelledCrops, load, thin
from everylabel.scripts.replay.names import DEFAULT_CACHE
from everylabel.scripts.replay.replay import Task, label_rounds

SETS = (
    "digits",
    "digits:3,8/8=8",
    "solar-cells",
    "fashion",
    "fashion:shirt,coat,pullover,dress",
    "animals",
    "animals:cat,dog,cow,horse",
    "animals:cat,dog/dog=8",
)
"""The part behind the slash keeps every eighth crop of a class."""
COLUMNS: Mapping[str, tuple[str, int | None]] = {
    "Lite0": ("efficientnet-lite0", None),
    "Lite2": ("efficientnet-lite2", None),
    "Lite0, last map": ("efficientnet-lite0", 1280),
    "Lite0, half its last map": ("efficientnet-lite0", 640),
}
"""The columns of an encoder's rows, up to a number."""
COMPARED = {
    "Lite0": ("Lite2", "Lite0, last map", "Lite0, half its last map"),
    "Lite2": ("Lite0",),
    "Lite0, last map": ("Lite0",),
    "Lite0, half its last map": ("Lite0",),
}
"""What each is compared with, while it is in use."""
AT = (25, 50, 100)
SAMPLE = 300
CROPS = 1000
DIFFERENT, ALIKE = 3.0, 1.0
"""Points of balanced accuracy: from here on two encoders differ, and up to here they do not."""


@dataclass(frozen=True)
class Advice:
    """A stated difference beside the true one, in points of balanced accuracy."""

    data: str
    in_use: str
    other: str
    seed: int
    n_labels: int
    truth: float
    points: float
    low: float
    high: float
    is_clear: bool


@dataclass(frozen=True)
class _Seen:
    """A head of all labels on one encoder's rows, and how it does."""

    accuracy: float
    out_of_fold: OutOfFold
    confidence: NDArray[Any]


def advise(
    data: str, rows: Mapping[str, NDArray[Any]], labels: Sequence[str], in_use: str, seed: int
) -> list[Advice]:
    """Label a pool with one encoder in use, and compare others with it.

    Args:
        data: the name of the pool.
        rows: (n, d) rows of each encoder, by its name.
        labels: the n true classes.
        in_use: the name of the encoder that crops are chosen with.
        seed: draws the first labels and the crops without one.

    Returns:
        One advice for each encoder compared and number of labels in AT.
    """
    truth, found = np.asarray(labels), []
    task = Task(labels=tuple(labels), seed=seed, pseudo_labels=True, pre_annotated_share=0.1)
    for session, _ in label_rounds(task, rows[in_use], EmbeddingClassifier()):
        usable = _usable(session.labels)
        if len(session.labels) not in AT or len(set(usable.values())) < 2:
            continue
        free = np.setdiff1d(np.arange(len(truth)), np.fromiter(session.labels, dtype=np.intp))
        drawn = np.random.default_rng(seed).permutation(len(free))[:SAMPLE]
        seen = {name: _see(rows[name], usable, free, drawn, truth) for name in (in_use, *COMPARED[in_use])}
        for other in COMPARED[in_use]:
            gain = seen[in_use].out_of_fold.gain(
                seen[other].out_of_fold, seen[in_use].confidence, seen[other].confidence
            )
            change = 100 * (seen[other].accuracy - seen[in_use].accuracy)
            found.append(
                Advice(data, in_use, other, seed, len(session.labels), change, *asdict(gain).values())
            )
    return found


def _usable(labels: Mapping[int, str]) -> dict[int, str]:
    given = list(labels.values())
    return {index: label for index, label in labels.items() if given.count(label) >= LEAST_OF_A_CLASS}


def _see(
    rows: NDArray[Any],
    labels: Mapping[int, str],
    free: NDArray[Any],
    drawn: NDArray[Any],
    truth: NDArray[Any],
) -> _Seen:
    classifier: Classifier = EmbeddingClassifier().adapt(rows)
    labelled, names = rows[list(labels)], list(labels.values())
    head = classifier.fresh().fit(labelled, names)
    probabilities = head.predict_proba(rows[free])
    right = np.asarray(head.classes_)[probabilities.argmax(axis=1)]
    return _Seen(
        float(balanced_accuracy_score(truth[free], right)),
        predict_out_of_fold(classifier, labelled, names),
        probabilities[drawn].max(axis=1),
    )


def summary(found: Sequence[Advice]) -> Iterator[str]:
    """Yield a line for each number of labels."""
    for n_labels in AT:
        at = [one for one in found if one.n_labels == n_labels]
        truth, said = (np.asarray([getattr(one, name) for one in at]) for name in ("truth", "points"))
        clear = np.asarray([one.is_clear for one in at])
        inside = np.asarray([one.low <= one.truth <= one.high for one in at])
        named = np.sign(said) == np.sign(truth)
        differ, alike = np.abs(truth) >= DIFFERENT, np.abs(truth) < ALIKE
        yield (
            f"{n_labels:3} labels, {len(at)} comparisons: error {np.sqrt(np.square(said - truth).mean()):.1f} points, truth "
            f"inside {inside.mean():.0%}; {differ.sum()} differ: better one named {named[differ].mean():.0%}, claimed "
            f"{(clear & named)[differ].mean():.0%}, the worse one claimed {(clear & ~named)[differ].mean():.0%}; "
            f"{alike.sum()} are alike: claimed {clear[alike].mean():.0%}"
        )


def _pool(source: str, cache: Path, report: Any) -> tuple[dict[str, Path], LabelledCrops]:
    name, _, rule = source.partition("/")
    crops = load(name, cache, limit=None if rule else CROPS)
    if rule:
        crops, _ = thin(crops, rule)
    some = np.sort(np.random.default_rng(0).permutation(len(crops))[:CROPS])
    crops = crops.take(some, source)
    names = {encoder for encoder, _ in COLUMNS.values()}
    return {
        encoder: embed(crops, encoders.create(encoder), cache, partial(report, f"Encoding {source}"))
        for encoder in sorted(names)
    }, crops


def _replay(
    source: str, files: Mapping[str, Path], labels: Sequence[str], in_use: str, seed: int
) -> list[Advice]:
    whole = {name: np.load(path, allow_pickle=False) for name, path in files.items()}
    rows = {name: whole[encoder][:, :until] for name, (encoder, until) in COLUMNS.items()}
    return advise(source, rows, labels, in_use, seed)


def main(
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each pool and encoder in use.")] = 8,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    cache: Annotated[Path, typer.Option(help="Where embeddings are kept.")] = DEFAULT_CACHE,
    output: Annotated[Path | None, typer.Option(help="A file for each comparison, a line of JSON.")] = None,
) -> None:
    """Compare encoders on pools whose labels are known, and say how near that comes to the truth."""
    found: list[Advice] = []
    context = multiprocessing.get_context("spawn")
    with progress() as report, ProcessPoolExecutor(jobs, mp_context=context) as workers:
        pools = [(source, *_pool(source, cache, report)) for source in SETS]
        waiting = [
            workers.submit(_replay, source, files, crops.labels, in_use, seed)
            for source, files, crops in pools
            for in_use in COMPARED
            for seed in range(seeds)
        ]
        for number, future in enumerate(waiting):
            report("Replaying", number, len(waiting))
            found += future.result()
    if output is not None:
        output.write_text("".join(json.dumps(asdict(one)) + "\n" for one in found), encoding="utf-8")
    for line in summary(found):
        console.print(line)


if __name__ == "__main__":
    typer.run(main)
