"""Fetch the crops of a data set into a folder: each picture once, broken ones named and passed over.

What is fetched stays if this is interrupted, under a name made of its address, and the next run goes on with the rest.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from everylabel.backend.dataset.labelled_crops import LabelledCrop
from everylabel.backend.images.cut import cut
from everylabel.backend.images.decode import FORMATS, FORMATS_HERE
from everylabel.backend.images.decoding_limits import decoding_memory
from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.store.atomic_write import taking_its_place
from everylabel.model.encoders.rgb import orientation

if TYPE_CHECKING:
    from everylabel.backend.images.reader import ImageReader
    from everylabel.backend.label_studio.crop_shapes import Shape
    from everylabel.backend.progress import Progress

TRIES = 2
"""How often a picture is asked for whose host does not answer."""
PAUSE_SECONDS = 1.0
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "MPO": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "AVIF": (".avif",),
}
"""The endings of a file's name, by Pillow's name of its format; the first where the file has another."""
_UPRIGHT = 1


@dataclass
class Fetched:
    """The files of the crops that were fetched, and why the others were not."""

    crops: dict[int, Path] = field(default_factory=dict)
    """The file of each crop, by task."""
    pictures: dict[str, Path] = field(default_factory=dict)
    """The file of each picture that crops were cut out of, by its address."""
    problems: dict[int, str] = field(default_factory=dict)
    """The reason why a crop could not be fetched, by task."""


@dataclass(frozen=True)
class _Picture:
    """A picture and the crops of it: by task, with their shape, or None if the crop is all of it."""

    address: str
    crops: dict[int, Shape | None]

    @property
    def is_cut(self) -> bool:
        """True if a crop is only a part of it."""
        return any(shape is not None for shape in self.crops.values())

    def name(self, shape: Shape | None) -> str:
        """Return the name, without an ending, under which a crop of it is kept."""
        address = self.address if shape is None else crop_shapes.address(self.address, shape)
        return hashlib.sha256(address.encode("utf-8", "replace")).hexdigest()[:32]


def fetch_crops(
    reader: ImageReader,
    crops: Iterable[LabelledCrop],
    folder: Path,
    threads: int,
    progress: Progress | None = None,
) -> Fetched:
    """Fetch crops, several pictures at a time; those that are in the folder already are not fetched again.

    A whole picture is kept as the file it is. A crop that is a part of its picture is cut out and saved as PNG, and
    the picture is kept beside it, upright.

    Args:
        reader: Fetches and decodes.
        crops: The crops; those that are known to be broken, and texts, are left out.
        folder: Where the files go.
        threads: Pictures fetched at a time.
        progress: Called with (what, done, total).

    Raises:
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    suffixes = {suffix for known in SUFFIXES.values() for suffix in known}
    there = {path.stem: path for path in folder.iterdir() if path.suffix in suffixes}
    all_of_it, pictures = Fetched(), _pictures(crops)
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(_fetch, reader, picture, folder, there) for picture in pictures]
        try:
            for done, future in enumerate(as_completed(running), start=1):
                found = future.result()
                all_of_it.crops |= found.crops
                all_of_it.pictures |= found.pictures
                all_of_it.problems |= found.problems
                if progress is not None:
                    progress("Fetching crops", done, len(pictures))
        except BaseException:  # Ctrl-C included: what has not begun does not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return all_of_it


def _pictures(crops: Iterable[LabelledCrop]) -> list[_Picture]:
    """Return the pictures to fetch, in the order of their first crop."""
    parts: dict[str, dict[int, Shape | None]] = defaultdict(dict)
    for crop in crops:
        if crop.problem is None and crop.text is None and crop.url:
            address, shape = crop_shapes.split(crop.url)
            parts[address][crop.task_id] = shape
    return [_Picture(address, shapes) for address, shapes in parts.items()]


def _fetch(reader: ImageReader, picture: _Picture, folder: Path, there: Mapping[str, Path]) -> Fetched:
    """Fetch one picture and cut its crops out, unless all of that is there."""
    found = Fetched()
    wanted = {picture.name(shape) for shape in picture.crops.values()} | {picture.name(None)}
    if wanted <= there.keys():
        found.crops = {task: there[picture.name(shape)] for task, shape in picture.crops.items()}
        found.pictures = {picture.address: there[picture.name(None)]} if picture.is_cut else {}
        return found
    with decoding_memory.scope():
        try:
            content, pixels = _read(reader, picture)
        except ImageError as error:
            found.problems = dict.fromkeys(picture.crops, str(error))
            return found
        whole = _save_picture(content, pixels, folder / picture.name(None), upright=picture.is_cut)
        if picture.is_cut:
            found.pictures[picture.address] = whole
        for task, shape in picture.crops.items():
            if shape is None:
                found.crops[task] = whole
            else:
                _save_cut(found, task, pixels, shape, folder / picture.name(shape))
    return found


def _save_cut(found: Fetched, task: int, pixels: Image.Image, shape: Shape, path: Path) -> None:
    """Cut a crop out of its picture and save it, or note why there is none."""
    try:
        found.crops[task] = _save_png(cut(pixels, shape), path)
    except ImageError as error:
        found.problems[task] = str(error)


def _read(reader: ImageReader, picture: _Picture) -> tuple[bytes, Image.Image]:
    """Read a picture, once more where its host did not answer."""
    task_id = next(iter(picture.crops))
    for _ in range(TRIES - 1):
        try:
            return reader.read_picture(picture.address, task_id)
        except ImageError as error:
            if not error.retry:
                raise
        time.sleep(PAUSE_SECONDS)
    return reader.read_picture(picture.address, task_id)


def _save_picture(content: bytes, pixels: Image.Image, path: Path, *, upright: bool) -> Path:
    """Save a picture as the file it is; if `upright`, as PNG where a viewer would have to turn it."""
    kind = _kind(content)
    if kind is None or (upright and not _is_upright(content, kind)):
        return _save_png(pixels, path)
    return _save(path.with_suffix(SUFFIXES[kind][0]), content)


def _kind(content: bytes) -> str | None:
    """Return the format of a picture that has been decoded, by its first bytes: opening some costs as much as decoding."""
    begin = content[:16]
    return next((name for name in FORMATS if (accepts := Image.OPEN[name][1]) and accepts(begin)), None)


def _is_upright(content: bytes, kind: str) -> bool:
    """Return whether every viewer shows a picture that has been decoded upright; False where only decoding it tells."""
    if kind not in FORMATS_HERE or (kind == "PNG" and content.rfind(b"eXIf") > content.find(b"IDAT")):
        return False
    with Image.open(io.BytesIO(content), formats=(kind,)) as header:
        return orientation(header) == _UPRIGHT


def _save_png(pixels: Image.Image, path: Path) -> Path:
    file = io.BytesIO()
    pixels.save(file, "PNG")
    return _save(path.with_suffix(".png"), file.getvalue())


def _save(path: Path, content: bytes) -> Path:
    # Under its name only when whole: an interrupted run must not leave half a file to be found.
    with taking_its_place(path) as unfinished:
        unfinished.write_bytes(content)
    return path


def suffix_of(path: Path, name: str) -> str:
    """Return the ending of a person's own file if it fits the kind of image that was fetched, or else the usual one."""
    own = name[name.rfind(".") :] if "." in name else ""
    kinds = (known for known in SUFFIXES.values() if path.suffix in known)
    return own if any(own.lower() in known for known in kinds) else path.suffix
