"""Find the pictures that `everylabel predict` is given: files, folders, lists of paths, and boxes in a table."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STDIN = "-"
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif"}
)
"""What a file in a folder has to be called to be taken for a picture."""
PATH_COLUMNS = ("path", "image", "file", "filename", "crop")
_NUMBERS = re.compile(r"-?\d+(?:\.\d+)?")

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""


class PicturesError(ValueError):
    """The pictures cannot be found; the message says what to do."""


@dataclass(frozen=True)
class Picture:
    """A picture to predict: a file, or a box in it."""

    path: str
    """As it was given, or below the folder that was given."""
    box: str = ""
    """As it was given; empty for the whole picture."""

    def pixels(self) -> Box | None:
        """Return the box in pixels, or None for the whole picture.

        Raises:
            PicturesError: it does not read as four numbers with a width and a height.
        """
        if not self.box:
            return None
        numbers = [round(float(number)) for number in _NUMBERS.findall(self.box)]
        if len(numbers) != 4 or min(numbers[2:]) < 1:
            raise PicturesError(f"the box {self.box!r} does not read x, y, width, height in pixels")
        left, top, width, height = numbers
        return left, top, left + width, top + height


@dataclass
class Pictures:
    """The pictures that were found, each once, in the order they were given."""

    found: dict[Picture, None] = field(default_factory=dict)
    passed_over: int = 0
    """Files in folders that are not called like pictures."""


def find_pictures(
    sources: Sequence[str], stdin: Iterable[bytes], *, box_column: str | None = None
) -> Pictures:
    """Find all pictures.

    Args:
        sources: files, folders, `-` for paths from `stdin`, or with a `box_column` tables (.csv).
        stdin: lines with a path each.
        box_column: the column of the tables that holds boxes, `x y width height` in pixels.

    Raises:
        PicturesError: a table cannot be read, or has not the columns.
    """
    pictures = Pictures()
    for source in sources:
        if source == STDIN:
            lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in stdin)
            pictures.found.update((Picture(line), None) for line in lines if line)
        elif box_column is not None:
            pictures.found.update((picture, None) for picture in _boxes(Path(source), box_column))
        elif Path(source).is_dir():
            _add_folder(pictures, Path(source))
        else:
            pictures.found[Picture(source)] = None
    return pictures


def _add_folder(pictures: Pictures, folder: Path) -> None:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in SUFFIXES:
                pictures.found[Picture(str(Path(parent, name)))] = None
            else:
                pictures.passed_over += 1


def _boxes(table: Path, box_column: str) -> Iterator[Picture]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or ()
            path_column = next((name for name in columns if name.casefold() in PATH_COLUMNS), None)
            if path_column is None or box_column not in columns:
                raise PicturesError(
                    f"{table} needs a column {box_column!r} and one of paths, called {', '.join(PATH_COLUMNS)}. It has: "
                    f"{', '.join(columns) or 'none'}."
                )
            for row in rows:
                if row[path_column]:
                    yield Picture(str(table.parent / row[path_column]), (row[box_column] or "").strip())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PicturesError(
            f"{table} cannot be read as a table (.csv) of paths and boxes: {error}."
        ) from error
