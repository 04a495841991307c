"""Crops to try everylabel on: digits from scikit-learn, solar cells from PyPI, or a folder of your own."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import track

from everylabel.scripts.replay.names import IMAGE_DATA_SETS

#: What both Label Studio's importer and a browser accept; anything else Pillow reads is converted to PNG.
SHOWN_AS_THEY_ARE: Final = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"})

DIGIT_PIXELS: Final = 96

#: What Pillow raises on a file that is damaged, not to be read, or far too large for a crop.
_UNREADABLE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class DatasetError(ValueError):
    """The crops cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class SkippedFile:
    """A file that is not a usable image, and the reason."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Dataset:
    """Crops as image files on disk, in a fixed order.

    `labels` holds the true class of each image by name, or is None where nobody knows it. `licence` is for people
    who see the images to read.
    """

    name: str
    classes: tuple[str, ...]
    images: tuple[Path, ...]
    labels: tuple[str, ...] | None
    licence: str
    skipped: tuple[SkippedFile, ...] = ()
    names: tuple[str, ...] = ()
    """The name of each image below the folder it came from; empty for a data set that is no folder."""

    def __len__(self) -> int:
        return len(self.images)


def load(
    source: str | Path, cache_dir: Path, *, classes: Sequence[str] = (), console: Console | None = None
) -> Dataset:
    """Return the data set named `source`, or the crops in the folder `source` if it is a `Path`.

    A folder whose images all lie in subfolders named like classes is labelled by them, unless `classes` names
    others; without such subfolders `classes` must be given. Files that Label Studio cannot show are converted into
    `cache_dir`; a second call finds what the first one wrote.

    Raises:
        DatasetError: the crops cannot be used.
    """
    console = console or Console(stderr=True)
    if isinstance(source, Path):
        return _folder(source, cache_dir, tuple(classes), console)
    if source not in _BUILT_IN:
        raise DatasetError(
            f"There is no data set {source!r}. Choose one of {', '.join(_BUILT_IN)}, "
            "or a folder of your own: --images DIR."
        )
    if classes:
        raise DatasetError(f"The data set {source!r} has its own classes: leave --classes out.")
    return _BUILT_IN[source](cache_dir, console)


def _digits(cache_dir: Path, console: Console) -> Dataset:
    # Imported here: the other data sets need no scikit-learn, which takes a second to import.
    from sklearn.datasets import load_digits  # noqa: PLC0415

    bunch = load_digits()
    pixels = np.asarray(bunch.images, dtype=np.float32)  # (1797, 8, 8), 0 (paper, drawn black) to 16 (ink)
    directory = cache_dir / "digits"
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"digit-{number:04d}.png" for number in range(1, len(pixels) + 1)]
    missing = [(path, crop) for path, crop in zip(paths, pixels, strict=True) if not path.exists()]
    for path, crop in track(missing, "Writing digits", console=console, transient=True, disable=not missing):
        grey = Image.fromarray((crop * (255 / 16)).astype(np.uint8))
        _save_png(grey.resize((DIGIT_PIXELS, DIGIT_PIXELS), Image.Resampling.BICUBIC), path)
    labels = tuple(str(int(digit)) for digit in bunch.target)
    return Dataset(
        name="digits",
        classes=tuple(str(digit) for digit in range(10)),
        images=tuple(paths),
        labels=labels,
        licence=(
            "UCI optical recognition of handwritten digits (E. Alpaydin, C. Kaynak; CC BY 4.0), "
            "as scikit-learn ships them."
        ),
    )


def _solar_cells(cache_dir: Path, console: Console) -> Dataset:
    found = find_spec("elpv_dataset")
    if found is None or found.origin is None:
        raise DatasetError(
            "The solar cells are in a package that is not installed: "
            f"{sys.executable} -m pip install elpv-dataset. "
            "The images are licensed CC BY-NC-SA 4.0."
        )
    directory = Path(found.origin).parent / "data"
    table = directory / "labels.csv"
    rows = [line.split() for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    # Each row: file, how probable a defect is (experts' answers: 0, 1/3, 2/3 or 1), kind of wafer.
    return Dataset(
        name="solar-cells",
        classes=("defective", "functional"),
        images=tuple(directory / row[0] for row in rows),
        labels=tuple("defective" if float(row[1]) >= 0.5 else "functional" for row in rows),
        licence=(
            "ELPV solar cells (Buerhop-Lutz, Deitsch et al., 2018): the images are licensed CC BY-NC-SA 4.0, "
            "not for commercial use."
        ),
    )


_BUILT_IN: Final[dict[str, Callable[[Path, Console], Dataset]]] = dict(
    zip(IMAGE_DATA_SETS, (_digits, _solar_cells), strict=True)
)


def _folder(root: Path, cache_dir: Path, classes: tuple[str, ...], console: Console) -> Dataset:
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder. Name one with image files.")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DatasetError(f"{root} may not be read by this user. Change its permissions, or copy it.")
    if len(set(classes)) != len(classes) or any(not name.strip() for name in classes):
        raise DatasetError(f"The classes {', '.join(classes)!r} are not distinct names. Write --classes a,b.")
    root = root.absolute()
    images: list[Path] = []
    sources: list[Path] = []
    skipped: list[SkippedFile] = []
    for path in track(_files(root), "Reading images", console=console, transient=True):
        found = _showable(path, root, cache_dir)
        if isinstance(found, SkippedFile):
            skipped.append(found)
        else:
            images.append(found)
            sources.append(path)
    if not images:
        refused = f" ({len(skipped)} unreadable files, the first is {skipped[0].path})" if skipped else ""
        raise DatasetError(f"{root} holds no image that can be read{refused}. Put PNG or JPEG crops into it.")
    if len(images) == 1:
        raise DatasetError(f"{root} holds one image only, {sources[0].name}: there is no choice to make.")
    truth = _classes_by_folder(sources, root)
    if classes and truth is not None and not set(truth) <= set(classes):
        truth = None  # the person's classes win: those subfolders only sort the crops
    if truth is None and len(classes) < 2:
        raise DatasetError(
            f"{root} has no subfolders to name its classes after. Say which classes there are: --classes a,b."
        )
    return Dataset(
        name=root.name,
        classes=classes or tuple(sorted(set(truth or ()), key=natural_order)),
        images=tuple(images),
        labels=None if truth is None else tuple(truth),
        licence="Your own images: they stay on this machine.",
        skipped=tuple(skipped),
        names=tuple(path.relative_to(root).as_posix() for path in sources),
    )


def natural_order(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts ``crop2`` before ``crop10``."""
    parts = re.split(r"(\d+)", text.casefold())
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def _files(root: Path) -> list[Path]:
    found = [
        path
        for path in root.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    return sorted(found, key=lambda path: [natural_order(part) for part in path.relative_to(root).parts])


def _classes_by_folder(files: Sequence[Path], root: Path) -> list[str] | None:
    parts = [path.relative_to(root).parts for path in files]
    if any(len(part) == 1 for part in parts) or len({part[0] for part in parts}) < 2:
        return None
    return [part[0] for part in parts]


def _showable(path: Path, root: Path, cache_dir: Path) -> Path | SkippedFile:
    """Return `path`, or a PNG of it in the cache where Label Studio or a browser could not show it."""
    try:
        with warnings.catch_warnings():
            # Pillow only warns about an image of up to twice its limit; a crop is never that large.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()  # a header alone does not tell that a file is truncated
                if path.suffix.lower() in SHOWN_AS_THEY_ARE:
                    return path
                return _converted(image, path, root, cache_dir)
    except UnidentifiedImageError:
        return SkippedFile(path, "not an image")
    except _UNREADABLE as error:
        return SkippedFile(path, str(error) or type(error).__name__)


def _converted(image: Image.Image, path: Path, root: Path, cache_dir: Path) -> Path:
    # Two folders called "crops" must not find each other's files.
    folder = f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"
    inside = path.relative_to(root)
    target = cache_dir / "converted" / folder / inside.with_name(inside.name + ".png")
    if not target.exists() or target.stat().st_mtime < path.stat().st_mtime:
        target.parent.mkdir(parents=True, exist_ok=True)
        _save_png(_eight_bit(image), target)
    return target


def _eight_bit(image: Image.Image) -> Image.Image:
    if not image.mode.startswith(("I", "F")):
        return image.convert("RGBA" if "A" in image.mode else "RGB")
    # 16-bit and float images (microscopes, thermal cameras): Pillow would clip them, so their range is
    # stretched.
    values = np.asarray(image, dtype=np.float64)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    scaled = np.nan_to_num((values - low) / ((high - low) or 1.0)) * 255
    return Image.fromarray(scaled.round().astype(np.uint8))


def _save_png(image: Image.Image, path: Path) -> None:
    # Under its final name only when whole: an interrupted run must not leave half a file to be found.
    partial = path.with_name(path.name + ".partial")
    image.save(partial, format="PNG")
    partial.replace(path)
