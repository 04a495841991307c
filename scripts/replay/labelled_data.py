"""Crops whose true labels are known, to replay labelling on: by name, from a folder, a CSV or an .npz."""

from __future__ import annotations

import csv
import gzip
import hashlib
import pickletools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everylabel.scripts.replay import datasets
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.names import DATA_SETS, IMAGE_DATA_SETS

FASHION_FOLDERS: Final = (Path("/usr/share/datasets/fashion-mnist"), Path("/usr/share/dataset-fashion-mnist"))
FASHION_CLASSES: Final = (
    "t-shirt trouser pullover dress coat sandal shirt sneaker bag ankle-boot".split()  # noqa: SIM905
)
ANIMAL_CLASSES: Final = "bear bird cat cow dog elephant giraffe horse sheep zebra".split()  # noqa: SIM905
_PATH_COLUMNS: Final = ("path", "image", "file", "filename", "crop")
_LABEL_COLUMNS: Final = ("label", "class", "y", "target")


@dataclass(frozen=True)
class LabelledCrops:
    """Crops in a fixed order, each with its true class.

    `open_image(i)` reads the i-th; `digest(i)` is a hash of its content, so that the same crop is encoded once,
    whatever its name.
    """

    name: str
    labels: tuple[str, ...]
    open_image: Callable[[int], Image.Image]
    digest: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Sequence[int] | NDArray[Any], name: str) -> LabelledCrops:
        """Return the crops at `rows`, in that order, under another name."""
        kept = [int(row) for row in rows]
        return LabelledCrops(
            name,
            tuple(self.labels[row] for row in kept),
            partial(_at, self.open_image, kept),
            partial(_at, self.digest, kept),
        )


def load(source: str, cache_dir: Path, *, limit: int | None = None) -> LabelledCrops:
    """Load `digits`, `fashion:shirt,coat`, a folder of class folders, a CSV or an .npz; `:` selects classes.

    Args:
        source: a name or a path, perhaps with classes.
        cache_dir: where converted images are kept.
        limit: how many crops to sample, the same ones every time.

    Raises:
        DatasetError: the data set is unknown or cannot be used.
    """
    base, wanted = _split(source)
    crops = _load_whole(base, cache_dir)
    if wanted:
        crops = _of_classes(crops, wanted)
    if len(set(crops.labels)) < 2:
        raise DatasetError(f"{source} has one class only, {crops.labels[0]!r}: there is nothing to learn.")
    if limit is not None and limit < len(crops):
        rows = np.sort(np.random.default_rng(0).permutation(len(crops))[:limit])
        crops = crops.take(rows, f"{crops.name}#{limit}")
    return crops


def split_sources(given: Sequence[str]) -> list[str]:
    """Split `digits,fashion:shirt,coat,./crops` into three: a plain word after `name:a` is another class."""
    found: list[str] = []
    for part in (part.strip() for text in given for part in text.split(",")):
        follows_classes = bool(found) and ":" in found[-1] and ":" not in part
        if follows_classes and part not in DATA_SETS and not Path(part).exists():
            found[-1] += f"+{part}"
        elif part:
            found.append(part)
    return found


def thin(crops: LabelledCrops, rule: str) -> tuple[LabelledCrops, list[int]]:
    """Keep every K-th crop of one class: `coat=12`, or `12` for the smallest class.

    Returns:
        The crops that are kept, and their rows.

    Raises:
        DatasetError: the rule cannot be read or names no class.
    """
    label, _, number = rule.rpartition("=")
    if not number.isdecimal() or int(number) < 1:
        raise DatasetError(f"{rule!r} does not say how to thin a class: write CLASS=K or K, such as coat=12.")
    if not label:
        label = min(sorted(set(crops.labels)), key=Counter(crops.labels).__getitem__)
    if label not in crops.labels:
        raise DatasetError(f"{crops.name} has no class {label!r}. It has {', '.join(_sorted(crops.labels))}.")
    members = [row for row, name in enumerate(crops.labels) if name == label]
    dropped = set(members) - set(members[:: int(number)])
    kept = [row for row in range(len(crops)) if row not in dropped]
    return crops.take(kept, f"{crops.name}/{label}={number}"), kept


def _split(source: str) -> tuple[str, list[str]]:
    base, colon, classes = source.rpartition(":")
    if not colon or Path(source).exists():
        return source, []
    return base, [name.strip() for name in classes.replace("+", ",").split(",") if name.strip()]


def _load_whole(base: str, cache_dir: Path) -> LabelledCrops:
    if base in IMAGE_DATA_SETS:
        found = datasets.load(base, cache_dir)
        assert found.labels is not None  # noqa: S101 - both are labelled
        return _from_files(base, found.images, found.labels)
    if base == "fashion":
        return _fashion()
    if base == "animals":
        return _animals()
    path = Path(base).expanduser()
    if path.suffix.lower() == ".npz" and path.is_file():
        return _from_npz(path)
    if path.suffix.lower() == ".csv" and path.is_file():
        return _from_csv(path)
    if path.is_dir():
        return _from_folder(path, cache_dir)
    raise DatasetError(
        f"There is no data set and no file {base!r}. Give one of {', '.join(DATA_SETS)}, a folder of class "
        "folders, a .csv of paths and labels, or an .npz with x and y."
    )


def _of_classes(crops: LabelledCrops, wanted: Sequence[str]) -> LabelledCrops:
    known = {name.casefold(): name for name in crops.labels}
    unknown = [name for name in wanted if name.casefold() not in known]
    if unknown:
        raise DatasetError(
            f"{crops.name} has no class {unknown[0]!r}. It has {', '.join(_sorted(crops.labels))}."
        )
    kept = {known[name.casefold()] for name in wanted}
    rows = [row for row, name in enumerate(crops.labels) if name in kept]
    return crops.take(rows, f"{crops.name}:{','.join(wanted)}")


def _from_folder(path: Path, cache_dir: Path) -> LabelledCrops:
    folders = [child for child in path.iterdir() if child.is_dir() and not child.name.startswith(".")]
    if len(folders) < 2:
        raise DatasetError(
            f"{path} has no class folders. Put the crops of each class into a folder of its own."
        )
    found = datasets.load(path, cache_dir)
    if found.labels is None:
        raise DatasetError(f"{path} holds crops outside its class folders: move each into one.")
    return _from_files(path.name, found.images, found.labels)


def _from_csv(path: Path) -> LabelledCrops:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    if not rows or min(len(row) for row in rows) < 2:
        raise DatasetError(f"{path} needs two columns in every row, a path and a label, with commas between.")
    image, label = 0, 1
    head = [cell.strip().casefold() for cell in rows[0]]
    if any(name in head for name in _LABEL_COLUMNS) and not (path.parent / rows[0][0]).is_file():
        image = next((head.index(name) for name in _PATH_COLUMNS if name in head), 0)
        label = next(head.index(name) for name in _LABEL_COLUMNS if name in head)
        rows = rows[1:]
    files = [path.parent / row[image].strip() for row in rows]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DatasetError(
            f"{path} names {len(missing)} files that do not exist, the first is {missing[0]}. "
            "Paths are read from the folder of the CSV."
        )
    return _from_files(path.stem, files, [row[label].strip() for row in rows])


def _from_npz(path: Path) -> LabelledCrops:
    with np.load(path, allow_pickle=False) as arrays:
        if not {"x", "y"} <= set(arrays.files):
            raise DatasetError(f"{path} has {', '.join(arrays.files) or 'nothing'}; x and y are needed.")
        try:
            x, y = arrays["x"], arrays["y"]
        except ValueError as error:  # an object array: only a pickle could hold it
            raise DatasetError(
                f"{path} holds Python objects. Save y as numbers or strings: y.astype(str)."
            ) from error
    shape_fits = x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3))
    if x.dtype != np.uint8 or not shape_fits:
        raise DatasetError(
            f"x in {path} is {x.dtype} of shape {x.shape}; it must be uint8 of (n, height, width) or "
            "(n, height, width, 3), 0 to 255."
        )
    if y.shape != (len(x),):
        raise DatasetError(f"{path} has {len(x)} crops and y of shape {y.shape}: one label a crop is needed.")
    return from_arrays(path.stem, x, [str(label) for label in y.tolist()])


def _fashion() -> LabelledCrops:
    folder = next((folder for folder in FASHION_FOLDERS if folder.is_dir()), None)
    if folder is None:
        raise DatasetError(
            "Fashion-MNIST is in a Debian package that is not installed: sudo apt-get install dataset-fashion-mnist"
        )
    parts = [("train", 16), ("t10k", 16)]
    images = [_idx(folder / f"{part}-images-idx3-ubyte.gz", offset) for part, offset in parts]
    codes = np.concatenate([_idx(folder / f"{part}-labels-idx1-ubyte.gz", 8) for part, _ in parts])
    pixels = np.concatenate(images).reshape(-1, 28, 28)
    return from_arrays("fashion", pixels, [FASHION_CLASSES[code] for code in codes])


def _idx(path: Path, header: int) -> NDArray[np.uint8]:
    return np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=header)


def _animals() -> LabelledCrops:
    found = find_spec("animal_mnist")
    if found is None or found.origin is None:
        raise DatasetError(
            "The animals are in a package that is not installed: pip install --no-deps animal-mnist"
        )
    folder = Path(found.origin).parent / "data" / "Animal_MNIST"
    pixels = np.frombuffer(_bytes_in_pickle(folder / "animal_data_version_3.gz"), dtype=np.uint8)
    codes = np.frombuffer(_bytes_in_pickle(folder / "animal_label_version_3.gz"), dtype="<i8")
    return from_arrays("animals", pixels.reshape(-1, 28, 28), [ANIMAL_CLASSES[code] for code in codes])


def _bytes_in_pickle(path: Path) -> bytes:
    """Return the largest byte string in a pickled array, read from the opcodes: unpickling would run code."""
    pickled = gzip.decompress(path.read_bytes())
    return max((arg for _, arg, _ in pickletools.genops(pickled) if isinstance(arg, bytes)), key=len)


def _from_files(name: str, files: Sequence[Path], labels: Sequence[str]) -> LabelledCrops:
    return LabelledCrops(name, tuple(labels), partial(_open, list(files)), partial(_file_digest, list(files)))


def from_arrays(name: str, pixels: NDArray[np.uint8], labels: Sequence[str]) -> LabelledCrops:
    """Return (n, height, width) or (n, height, width, 3) crops and their n labels as a data set."""
    return LabelledCrops(
        name,
        tuple(labels),
        partial(_array_image, pixels),
        partial(_array_digest, np.ascontiguousarray(pixels)),
    )


def _open(files: Sequence[Path], row: int) -> Image.Image:
    try:
        image = Image.open(files[row])
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{files[row]} cannot be read as an image ({error}). Take it out.") from error
    return image


def _file_digest(files: Sequence[Path], row: int) -> str:
    return hashlib.blake2b(files[row].read_bytes(), digest_size=16).hexdigest()


def _array_image(pixels: NDArray[np.uint8], row: int) -> Image.Image:
    crop = pixels[row]
    return Image.fromarray(crop[..., 0] if crop.ndim == 3 and crop.shape[2] == 1 else crop)


def _array_digest(pixels: NDArray[np.uint8], row: int) -> str:
    return hashlib.blake2b(pixels[row].tobytes(), digest_size=16, person=b"array").hexdigest()


def _at(function: Callable[[int], Any], rows: Sequence[int], row: int) -> Any:
    return function(rows[row])


def _sorted(labels: Sequence[str]) -> list[str]:
    return sorted(set(labels), key=datasets.natural_order)
