"""Find what `everylabel predict` is given: files, folders, lists of paths, and boxes or texts in a table."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

STDIN = "-"
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif"}
)
"""What a file in a folder has to be called to be taken for a picture."""
TEXT_SUFFIXES = frozenset({".txt"})
"""What it has to be called to be taken for a text."""
PATH_COLUMNS = ("path", "image", "file", "filename", "crop")
_NUMBERS = re.compile(r"-?\d+(?:\.\d+)?")

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""


class PicturesError(ValueError):
    """The pictures cannot be found; the message says what to do."""


@dataclass(frozen=True)
class Picture:
    """A picture or a text to predict: a file, a box in it, or a row of a table."""

    path: str
    """As it was given, or below the folder that was given."""
    box: str = ""
    """As it was given; empty for the whole picture."""
    text: str | None = field(default=None, compare=False)
    """What a row of a table holds; `path` then ends in the row's line."""

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
    """Files in folders that are not called like what is looked for."""


def find_pictures(
    sources: Sequence[str],
    stdin: Iterable[bytes],
    *,
    box_column: str | None = None,
    text_column: str | None = None,
    suffixes: Collection[str] = SUFFIXES,
) -> Pictures:
    """Find all pictures, or texts.

    Args:
        sources: files, folders, `-` for paths from `stdin`, or with a column tables (.csv).
        stdin: lines with a path each.
        box_column: the column of the tables that holds boxes, `x y width height` in pixels.
        text_column: the column of the tables that holds texts.
        suffixes: what is taken of a folder.

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
        elif text_column is not None:
            pictures.found.update((text, None) for text in _texts(Path(source), text_column))
        elif Path(source).is_dir():
            _add_folder(pictures, Path(source), suffixes)
        else:
            pictures.found[Picture(source)] = None
    return pictures


def _add_folder(pictures: Pictures, folder: Path, suffixes: Collection[str]) -> None:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in suffixes:
                pictures.found[Picture(str(Path(parent, name)))] = None
            else:
                pictures.passed_over += 1


def _boxes(table: Path, box_column: str) -> Iterator[Picture]:
    with _rows(table, "paths and boxes") as rows:
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


def _texts(table: Path, text_column: str) -> Iterator[Picture]:
    with _rows(table, "texts") as rows:
        columns = rows.fieldnames or ()
        if text_column not in columns:
            raise PicturesError(
                f"{table} needs a column {text_column!r}. It has: {', '.join(columns) or 'none'}."
            )
        for row in rows:
            yield Picture(f"{table}:{rows.line_num}", text=row[text_column] or "")


@contextmanager
def _rows(table: Path, what: str) -> Iterator[csv.DictReader[str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            yield csv.DictReader(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PicturesError(f"{table} cannot be read as a table (.csv) of {what}: {error}.") from error
