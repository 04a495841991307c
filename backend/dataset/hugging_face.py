"""Files that Hugging Face's `datasets` reads: a `metadata.csv` for the crops of a split, or the texts themselves."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

FIELDS = ("file_name", "label", "task_id", "source", "suspected")
TEXT_FIELDS = ("text", "label", "task_id", "source", "suspected")
_EMPTY = frozenset(
    {
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
    }
    | {"NaN", "None", "n/a", "nan", "null"}
)
"""Texts that a reader of CSV takes for an empty cell."""


def write_metadata(folder: Path, rows: Sequence[Mapping[str, Any]], labels: Collection[str]) -> None:
    """Write what `imagefolder` reads beside the crops of a split.

    `datasets` reads numbers, truth values and empty cells out of a CSV file where class names look like them. Where
    it would not read every class as it is, the file is `metadata.jsonl`, which has no such freedom.

    Args:
        folder: The split's.
        rows: Lines of the manifest, of crops with a file.
        labels: Every label of the data set: a label has the same type in each split.
    """
    lines = [
        {name: row.get(name) for name in FIELDS}
        | {"file_name": PurePosixPath(row["path"]).relative_to(folder.name).as_posix()}
        for row in rows
    ]
    if reads_as_written(labels):
        with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
    else:
        _write_lines(folder / "metadata.jsonl", lines)


def write_texts(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the texts of a split, one JSON object a line."""
    _write_lines(path, [{name: row.get(name) for name in TEXT_FIELDS} for row in rows])


def reads_as_written(labels: Collection[str]) -> bool:
    """Return whether a reader of CSV gets these labels back: as whole numbers if all are, and else as text."""
    if all(label.isdecimal() and label.isascii() and str(int(label)) == label for label in labels):
        return True
    return not any(
        label.strip() in _EMPTY or label.strip().lower() in ("true", "false") or _is_number(label)
        for label in labels
    )


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
