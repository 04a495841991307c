"""Crops of several classes, made of the data sets there are, to replay labelling on.

`digit-traits`: digits, by what is true of each: even or odd, above four, with a loop. `digits-together`: one to three of the
digits 0 to 3 on a crop, each in a quarter of its own. `solar-cells-kinds`: photographs of solar cells, by the kind of their
wafer, and defective or not.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from everylabel.model import label_set
from everylabel.scripts.replay.labelled_data import LabelledCrops, load

LOOPS, TOGETHER = "0689", "0123"
CROPS_TOGETHER = 1500


def of_several_classes(source: str, cache: Path, limit: int | None = None) -> LabelledCrops:
    """Return crops whose labels are sets of classes, written as `everylabel.model.label_set` does.

    Args:
        source: a name of `SETS`.
        cache: where converted images are kept.
        limit: how many crops to sample, the same ones every time.
    """
    crops = SETS[source](cache)
    if limit is None or limit >= len(crops):
        return crops
    rows = np.sort(np.random.default_rng(0).permutation(len(crops))[:limit])
    return crops.take(rows, f"{crops.name}#{limit}")


def _digit_traits(cache: Path) -> LabelledCrops:
    crops = load("digits", cache)
    traits = {
        digit: label_set.join(
            name
            for name, held in (
                ("even" if int(digit) % 2 == 0 else "odd", True),
                ("above four", int(digit) > 4),
                ("loop", digit in LOOPS),
            )
            if held
        )
        for digit in "0123456789"
    }
    labels = tuple(traits[digit] for digit in crops.labels)
    return LabelledCrops("digit-traits", labels, crops.open_image, crops.digest)


def _digits_together(cache: Path) -> LabelledCrops:
    crops = load("digits", cache)
    rng = np.random.default_rng(0)
    rows_of = {digit: np.flatnonzero(np.asarray(crops.labels) == digit) for digit in TOGETHER}
    made = []
    for _ in range(CROPS_TOGETHER):
        held = rng.choice([*TOGETHER], size=rng.integers(1, 4), replace=False)
        places = rng.permutation(4)[: len(held)]
        made.append(
            [(int(rng.choice(rows_of[d])), int(place)) for d, place in zip(held, places, strict=True)]
        )
    labels = tuple(label_set.join(crops.labels[row] for row, _ in parts) for parts in made)
    return LabelledCrops(
        "digits-together", labels, partial(_together, crops, made), lambda i: f"{made[i]} of digits"
    )


def _together(crops: LabelledCrops, made: list[list[tuple[int, int]]], i: int) -> Image.Image:
    found = [(crops.open_image(row).convert("L").resize((64, 64)), place) for row, place in made[i]]
    canvas = Image.new("L", (128, 128), found[0][0].getpixel((0, 0)))
    for picture, place in found:
        canvas.paste(picture, (64 * (place % 2), 64 * (place // 2)))
    return canvas.convert("RGB")


def _solar_cells_kinds(cache: Path) -> LabelledCrops:
    from elpv_dataset import utils  # noqa: PLC0415 - an optional extra

    crops = load("solar-cells", cache)
    with (Path(utils.__file__).parent / "data" / "labels.csv").open(encoding="utf-8") as file:
        kinds = [row[-1] for row in csv.reader(file, delimiter=" ", skipinitialspace=True) if row]
    labels = tuple(
        label_set.join([kind, *(["defective"] if label == "defective" else [])])
        for kind, label in zip(kinds, crops.labels, strict=True)
    )
    return LabelledCrops("solar-cells-kinds", labels, crops.open_image, crops.digest)


SETS: Final[dict[str, Callable[[Path], LabelledCrops]]] = {
    "digit-traits": _digit_traits,
    "digits-together": _digits_together,
    "solar-cells-kinds": _solar_cells_kinds,
}
