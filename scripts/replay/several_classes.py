"""Crops of several classes each, made of data sets of one class a crop: by attributes, side by side, or damaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from everylabel.model import label_set
from everylabel.scripts.replay import datasets, labelled_data
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.labelled_data import LabelledCrops

DIGIT_CLASSES: Final = {
    **dict.fromkeys("13", "plain"),
    **dict.fromkeys("24", "even"),
    **dict.fromkeys("57", "high"),
    "0": "even + loop",
    "6": "even + high + loop",
    "8": "even + high + loop",
    "9": "high + loop",
}
FASHION_CLASSES: Final = {
    "t-shirt": "top",
    "trouser": "legs",
    "pullover": "top + warm",
    "dress": "legs + top",
    "coat": "opens + top + warm",
    "sandal": "shoe",
    "shirt": "opens + top",
    "sneaker": "shoe",
    "bag": "plain",
    "ankle-boot": "shoe + warm",
}
CELL: Final = 28
GRIDS: Final = {
    "fashion": {"t-shirt": 0.4, "trouser": 0.3, "sandal": 0.2, "sneaker": 0.12, "bag": 0.06},
    "digits": {"3": 0.35, "8": 0.35, "6": 0.2, "1": 0.1, "7": 0.06},
}
DAMAGE: Final = {"scratch": 0.3, "blot": 0.15, "blurred": 0.1, "tilted": 0.06}


def load_several(name: str, cache_dir: Path, limit: int = 1500) -> LabelledCrops:
    """Load crops whose labels are sets of classes.

    Args:
        name: one of `SEVERAL`.
        cache_dir: where converted images are kept.
        limit: how many crops.

    Raises:
        DatasetError: there is nothing of that name, or what it is made of is not installed.
    """
    if name not in SEVERAL:
        raise DatasetError(
            f"There are no crops of several classes named {name!r}. Choose one of {', '.join(SEVERAL)}."
        )
    return SEVERAL[name](name, cache_dir, limit)


def _attributes(of: str, classes: Mapping[str, str], name: str, cache_dir: Path, limit: int) -> LabelledCrops:
    crops = labelled_data.load(of, cache_dir, limit=limit)
    labels = tuple(classes[label] for label in crops.labels)
    return LabelledCrops(name, labels, crops.open_image, crops.digest)


def _solar_cells(name: str, cache_dir: Path, limit: int) -> LabelledCrops:
    """Tell broken cells, those that experts are unsure of, and polycrystalline ones."""
    found = datasets.load("solar-cells", cache_dir)
    table = found.images[0].parent.parent / "labels.csv"
    # Version 1.0.0 of the package has a fourth column.
    rows = [line.split()[:3] for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    classes = [
        {
            *(["defective"] if float(probable) >= 0.5 else []),
            *(["unsure"] if 0 < float(probable) < 1 else []),
            *(["poly"] if wafer == "poly" else []),
        }
        for _, probable, wafer in rows
    ]
    crops = labelled_data.load("solar-cells", cache_dir)
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:limit])
    kept = crops.take(chosen, name)
    labels = tuple(label_set.join(classes[row] or {"plain"}) for row in chosen)
    return LabelledCrops(name, labels, kept.open_image, kept.digest)


def _grid(of: str, name: str, cache_dir: Path, limit: int) -> LabelledCrops:
    """Show up to four things of different kinds in the fields of a two by two grid: the kinds are the classes."""
    crops = labelled_data.load(of, cache_dir)
    shares = GRIDS[of]
    members = {kind: np.flatnonzero(np.asarray(crops.labels) == kind) for kind in shares}
    rng = np.random.default_rng([1, len(crops)])
    labels, pictures = [], np.zeros((limit, 2 * CELL, 2 * CELL), dtype=np.uint8)
    for picture in pictures:
        kinds: list[str] = []
        while not 0 < len(kinds) < 5:
            kinds = [kind for kind, share in shares.items() if rng.random() < share]
        for kind, field in zip(kinds, rng.permutation(4), strict=False):
            thing = crops.open_image(int(rng.choice(members[kind]))).convert("L").resize((CELL, CELL))
            top, left = CELL * (field // 2), CELL * (field % 2)
            picture[top : top + CELL, left : left + CELL] = np.asarray(thing)
        labels.append(label_set.join(kinds))
    return labelled_data.from_arrays(name, pictures, labels)


def _damaged(of: str, name: str, cache_dir: Path, limit: int) -> LabelledCrops:
    """Scratch, blot, blur and tilt crops at random: the kinds of damage are the classes, or `fine`."""
    crops = labelled_data.load(of, cache_dir, limit=limit)
    rng = np.random.default_rng(2)
    labels, pictures = [], np.zeros((len(crops), 4 * CELL, 4 * CELL), dtype=np.uint8)
    for row in range(len(crops)):
        kinds = [kind for kind, share in DAMAGE.items() if rng.random() < share]
        image = crops.open_image(row).convert("L").resize((4 * CELL, 4 * CELL), Image.Resampling.BICUBIC)
        pictures[row] = _damage(image, kinds, rng)
        labels.append(label_set.join(kinds or ["fine"]))
    return labelled_data.from_arrays(name, pictures, labels)


def _damage(image: Image.Image, kinds: list[str], rng: np.random.Generator) -> NDArray[Any]:
    side = image.width
    if "blurred" in kinds:
        image = image.filter(ImageFilter.GaussianBlur(4))
    if "tilted" in kinds:
        image = image.rotate(float(rng.choice([-1, 1]) * rng.uniform(25, 45)))
    draw = ImageDraw.Draw(image)
    if "scratch" in kinds:
        ends = [(int(rng.integers(side // 3)), int(rng.integers(side))) for _ in range(2)]
        draw.line([ends[0], (side - ends[1][0], ends[1][1])], fill=int(rng.integers(140, 256)), width=2)
    if "blot" in kinds:
        x, y = (int(one) for one in rng.integers(side // 5, 4 * side // 5, 2))
        r = int(rng.integers(6, 12))
        draw.ellipse([x - r, y - r, x + r, y + r], fill=int(rng.integers(60, 200)))
    return np.asarray(image)


SEVERAL: Final[dict[str, Callable[[str, Path, int], LabelledCrops]]] = {
    "digit attributes": partial(_attributes, "digits", DIGIT_CLASSES),
    "garment attributes": partial(_attributes, "fashion", FASHION_CLASSES),
    "solar cells": _solar_cells,
    "garments in a grid": partial(_grid, "fashion"),
    "digits in a grid": partial(_grid, "digits"),
    "damaged garments": partial(_damaged, "fashion"),
}
