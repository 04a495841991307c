"""Measure what a person's own model, trained on an exported data set by a few lines of scikit-learn, is worth beside everylabel's.

`python -m everylabel.scripts.benchmarks.measure_scikit_learn --data digits,solar-cells` measures the table of docs/dataset.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from everylabel.model import encoders
from everylabel.model.encoders import Encoder
from everylabel.model.encoders.rgb import to_rgb
from everylabel.scripts.console import fail, progress
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.labelled_data import LabelledCrops, load, split_sources
from everylabel.scripts.replay.names import DEFAULT_CACHE

LAST_LAYER = 1280
"""The columns of the default encoder's last layer; its middle ones follow."""
PIXELS = (16, 16)
LABELS = (120, 250)
"""How many labels the models are trained on."""
SMALLEST = 300
"""Crops that a data set needs, so that some are left to measure on."""


def main(
    data: Annotated[list[str], typer.Option(help="Data sets, as for `everylabel simulate`.")] = ["digits"],  # noqa: B006
    crops: Annotated[int, typer.Option(min=SMALLEST, help="Crops of each data set.")] = 1500,
    runs: Annotated[int, typer.Option(min=1, help="Runs, each with other labels.")] = 8,
    cache: Annotated[Path, typer.Option(help="Where converted pictures are kept.")] = DEFAULT_CACHE,
) -> None:
    """Train each model on random labels, and print a table of how often it is right on the other crops, in Markdown."""
    encoder = encoders.create(encoders.DEFAULT, device="cpu")
    lines = ["| data set | labels | everylabel | embeddings | pixels |", "|---|---|---|---|---|"]
    try:
        sets = [load(source, cache, limit=crops) for source in split_sources(data)]
    except (DatasetError, ValueError) as error:
        fail(error)
    for one in sets:
        if len(one) < SMALLEST:
            fail(
                f"{one.name} has {len(one)} crops, and the models learn from up to {max(LABELS)} of them: name a data set of "
                f"{SMALLEST} or more."
            )
    with progress() as report:
        for number, one in enumerate(sets):
            report("Training", number, len(sets))
            for count in LABELS:
                shares = accuracies(encoder, one, count, runs)
                lines.append(f"| {one.name} | {count} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    sys.stdout.write("\n".join(lines) + "\n")


def accuracies(encoder: Encoder, data: LabelledCrops, labels: int, runs: int) -> list[float]:
    """Return how often everylabel, scikit-learn on its embeddings, and scikit-learn on pixels are right.

    Args:
        encoder: the default encoder.
        data: the crops.
        labels: how many of them each model is trained on; it is measured on all others.
        runs: the mean of so many is returned.
    """
    pictures = [to_rgb(data.open_image(row)) for row in range(len(data))]
    rows = encoder.encode(np.stack([encoder.prepare(picture) for picture in pictures]))
    pixels = np.stack([np.asarray(picture.convert("L").resize(PIXELS)).ravel() for picture in pictures])
    truth, found = np.array(data.labels), []
    for seed in range(runs):
        order = np.random.default_rng(seed).permutation(len(truth))
        train, test = order[:labels], order[labels:]
        classifier = encoder.make_classifier().adapt(rows).fit(rows[train], truth[train].tolist())
        said = np.array(classifier.classes_)[classifier.predict_proba(rows[test]).argmax(axis=1)]
        found.append(
            [
                float((said == truth[test]).mean()),
                *(
                    float(model.fit(x[train], truth[train]).score(x[test], truth[test]))
                    for model, x in zip(_models(), (rows.astype(np.float32), pixels), strict=True)
                ),
            ]
        )
    means: list[float] = np.mean(found, axis=0).tolist()
    return means


def _models() -> Sequence[Any]:
    """Return the models of docs/dataset.md: of embeddings, and of pixels."""
    from sklearn.compose import make_column_transformer  # noqa: PLC0415 - takes long to load
    from sklearn.linear_model import RidgeClassifierCV  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import Normalizer, StandardScaler  # noqa: PLC0415
    from sklearn.svm import SVC  # noqa: PLC0415

    penalties: NDArray[Any] = np.geomspace(0.03, 10, 11)
    scaled = make_column_transformer(
        (StandardScaler(with_std=False), slice(0, LAST_LAYER)), (StandardScaler(), slice(LAST_LAYER, None))
    )
    return (
        make_pipeline(scaled, Normalizer(), RidgeClassifierCV(penalties)),
        make_pipeline(StandardScaler(), SVC(C=10)),
    )


if __name__ == "__main__":
    typer.run(main)
