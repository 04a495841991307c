"""Embed some crops of a project with several encoders, and compare what their rows are worth on its labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.embedding.crop_loader import CropReader
from everylabel.backend.embedding.encoding import plain_crop
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.rounds.models import make_classifier
from everylabel.model.evaluation.encoder_comparison import (
    LEAST_LABELS,
    LEAST_OF_A_CLASS,
    Gain,
    OutOfFold,
    predict_out_of_fold,
)

if TYPE_CHECKING:
    from everylabel.backend.images.reader import ImageReader
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.store import Task
    from everylabel.model.encoders import Encoder

AHEAD = 64
"""How many crops are read while others are encoded."""


class TooFewLabelsError(ValueError):
    """Nothing can be said yet; the message says what is missing."""


@dataclass(frozen=True)
class Trial:
    """The outcome of one encoder's trial."""

    name: str
    licence: str
    bytes_per_crop: int
    crops_per_second: float
    """Reading and preparing them included, on this machine."""
    tasks: tuple[int, ...]
    """The labelled tasks that `out_of_fold` is of, in its order."""
    out_of_fold: OutOfFold
    pool_confidence: NDArray[Any]
    """(m,) the confidence of a model of all labels in crops without one; none without such crops."""

    def gain(self, other: Trial) -> Gain:
        """Return what a switch from this encoder, the one in use, to `other` would change."""
        if not (len(self.pool_confidence) and len(other.pool_confidence)):
            return self.out_of_fold.gain(other.out_of_fold)
        return self.out_of_fold.gain(other.out_of_fold, self.pool_confidence, other.pool_confidence)


def usable_labels(labels: Mapping[int, str], at_most: int, seed: int) -> dict[int, str]:
    """Return the labels to compare by: of classes with two labels or more, a sample where there are very many.

    Raises:
        TooFewLabelsError: fewer than 25 labels, or no two such classes.
    """
    if len(labels) < LEAST_LABELS:
        raise TooFewLabelsError(
            f"{len(labels)} labelled crops can be read; with fewer than {LEAST_LABELS}, luck decides which encoder looks better. "
            "Label some more first."
        )
    _, codes = np.unique(list(labels.values()), return_inverse=True)
    frequent = np.bincount(codes) >= LEAST_OF_A_CLASS
    kept = [task for task, code in zip(labels, codes, strict=True) if frequent[code]]
    if np.count_nonzero(frequent) < 2:
        raise TooFewLabelsError("Two classes need two labels each before encoders can be compared.")
    if len(kept) > at_most:
        kept = [kept[at] for at in np.random.default_rng(seed).permutation(len(kept))[:at_most]]
        return usable_labels({task: labels[task] for task in kept}, at_most, seed)
    return {task: labels[task] for task in sorted(kept)}


def try_encoder(
    reader: ImageReader,
    encoder: Encoder,
    control: ImageChoices,
    tasks: Sequence[Task],
    labels: Mapping[int, str],
    threads: int,
    report: Callable[[int, int], None],
) -> Trial:
    """Embed crops with one encoder, and predict the labelled ones out of fold.

    Args:
        reader: fetches pictures.
        encoder: the encoder to try.
        control: the choices of the labeling config.
        tasks: the labelled crops and some others, which say what the pool looks like.
        labels: the label of each labelled task.
        threads: how many crops are fetched at a time.
        report: called with (done, total).

    Raises:
        TooFewLabelsError: too few of the labelled crops can be read.
        LabelConfigError: the encoder cannot learn what the config asks for.
    """
    rows, seconds = _embed(reader, encoder, tasks, threads, report)
    found = {task: label for task, label in labels.items() if task in rows}
    kept = usable_labels(found, len(found), 0)
    classifier = make_classifier(control, encoder).adapt(np.stack(list(rows.values())))
    labelled, names = np.stack([rows[task] for task in kept]), list(kept.values())
    predicted = predict_out_of_fold(classifier, labelled, names)
    confidence = np.empty(0)
    if others := [row for task, row in rows.items() if task not in labels]:
        confidence = classifier.fresh().fit(labelled, names).predict_proba(np.stack(others)).max(axis=1)
    per_crop = encoder.dim * encoder.dtype.itemsize
    rate = len(rows) / max(seconds, 1e-9)
    return Trial(encoder.name, encoder.licence, per_crop, rate, tuple(kept), predicted, confidence)


def _embed(
    reader: ImageReader,
    encoder: Encoder,
    tasks: Sequence[Task],
    threads: int,
    report: Callable[[int, int], None],
) -> tuple[dict[int, NDArray[Any]], float]:
    """Return the row of each task whose crop can be read, and the seconds that took, without loading the network."""
    read: list[int] = []

    def batches() -> Iterator[NDArray[Any]]:
        crops = (
            (found.task.id, found.prepared.pixels)
            for found in CropReader(reader, encoder, threads).read(tasks, AHEAD)
            if not isinstance(found.prepared, ImageError)
        )
        while batch := list(islice(crops, encoder.batch_size)):
            read.extend(task for task, _ in batch)
            yield np.stack([pixels for _, pixels in batch])

    encoder.encode(plain_crop(encoder))  # loads the network
    rows: list[NDArray[Any]] = []
    started = time.monotonic()
    for some in encoder.encode_all(batches()):
        rows.extend(some)
        report(len(rows), len(tasks))
    return dict(zip(read, rows, strict=True)), time.monotonic() - started
