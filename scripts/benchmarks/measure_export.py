"""Measure exported models: how far they are from the encoder and classifier they were made of, and what `novelty` sees.

`python -m everylabel.scripts.benchmarks.measure_export --data digits,solar-cells,fashion:shirt,coat` measures the table of
docs/export.md.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from everylabel.model import encoders
from everylabel.model.encoders import Encoder
from everylabel.model.encoders.rgb import to_rgb
from everylabel.model.exported.compose import to_onnx
from everylabel.model.exported.model_file import CropPredictions, ExportedModel
from everylabel.model.exported.novelty import Novelty
from everylabel.scripts.console import fail, progress
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.labelled_data import LabelledCrops, load, split_sources
from everylabel.scripts.replay.names import DEFAULT_CACHE

POOL = 0.6
"""Share of the crops that are the pool; the others are new pictures of the same kind."""
OTHERS = 300
"""Crops of each other set that are to be flagged."""


@dataclass(frozen=True)
class Measured:
    """The figures of one exported model."""

    data: str
    megabytes: float
    n: int
    off: float
    """The largest difference of any probability."""
    milliseconds: float
    """For a crop, in batches of 8 on one thread, resizing included."""
    own_flagged: float
    """Share of new pictures of the same kind."""
    auroc: dict[str, float]
    """By the other set."""


def main(
    data: Annotated[list[str], typer.Option(help="Data sets, as for `everylabel simulate`.")] = ["digits"],  # noqa: B006
    encoder: Annotated[str, typer.Option(help="The encoder, as for `everylabel demo`.")] = encoders.DEFAULT,
    crops: Annotated[int, typer.Option(min=100, help="Crops of each data set.")] = 700,
    labels: Annotated[int, typer.Option(min=10, help="Labels that the classifier is trained on.")] = 100,
    cache: Annotated[Path, typer.Option(help="Where converted pictures are kept.")] = DEFAULT_CACHE,
) -> None:
    """Export a model of each data set, run it on all of them, and print a table in Markdown."""
    made = encoders.create(encoder, device="cpu", threads=1)
    try:
        sets = [load(source, cache, limit=crops) for source in split_sources(data)]
    except (DatasetError, ValueError) as error:
        fail(error)
    pictures = [[to_rgb(one.open_image(row)) for row in _mixed(len(one))] for one in sets]
    found = []
    with progress() as report:
        for number, one in enumerate(sets):
            report("Exporting and running", number, len(sets))
            truth = [one.labels[row] for row in _mixed(len(one))]
            others = {other.name: pictures[i][:OTHERS] for i, other in enumerate(sets) if other is not one}
            found.append(_measure(one, made, pictures[number], truth, others, labels))
    sys.stdout.write(_table(found))


def _mixed(n: int) -> list[int]:
    order: list[int] = np.random.default_rng(1).permutation(n).tolist()
    return order


def _measure(
    data: LabelledCrops,
    encoder: Encoder,
    pictures: Sequence[Image.Image],
    truth: Sequence[str],
    others: dict[str, list[Image.Image]],
    labels: int,
) -> Measured:
    pool = round(POOL * len(pictures))
    rows = encoder.encode(np.stack([encoder.prepare(picture) for picture in pictures]))
    classifier = encoder.make_classifier().adapt(rows[:pool]).fit(rows[:labels], truth[:labels])
    novelty = Novelty.measured(rows[:pool], by_direction=classifier.space is not None)
    with tempfile.TemporaryDirectory(prefix="everylabel-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(to_onnx(encoder, classifier, novelty))
        model, size = ExportedModel(path, threads=1), path.stat().st_size
    begun = time.perf_counter()
    said = _run(model, pictures)
    seconds = time.perf_counter() - begun
    scores: NDArray[Any] = np.zeros(0) if said.novelty is None else said.novelty[pool:]
    seen = {name: _auroc(scores, _run(model, theirs).novelty) for name, theirs in others.items()}
    return Measured(
        data.name,
        size / 1e6,
        len(pictures),
        float(np.abs(said.probabilities - classifier.predict_proba(rows)).max()),
        1000 * seconds / len(pictures),
        float((scores > 1).mean()),
        seen,
    )


def _run(model: ExportedModel, pictures: Sequence[Image.Image]) -> CropPredictions:
    return model.predict([model.prepare(picture) for picture in pictures])


def _auroc(own: NDArray[Any], others: NDArray[Any] | None) -> float:
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - takes long to load

    if others is None:
        return float("nan")
    return float(roc_auc_score(np.r_[np.zeros(len(own)), np.ones(len(others))], np.r_[own, others]))


def _table(found: Sequence[Measured]) -> str:
    head = "| data set | crops | MB | largest difference | ms a crop | own flagged | AUROC against the other sets |"
    lines = [
        f"| {one.data} | {one.n:,} | {one.megabytes:.1f} | {one.off:.6f} | {one.milliseconds:.1f} | {one.own_flagged:.1%} | "
        f"{', '.join(f'{name} {value:.3f}' for name, value in one.auroc.items())} |"
        for one in found
    ]
    return "\n".join([head, "|---|---|---|---|---|---|---|", *lines]) + "\n"


if __name__ == "__main__":
    typer.run(main)
