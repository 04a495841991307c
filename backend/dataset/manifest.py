"""The manifest of a data set: `labels.csv`, one line a crop, and the same as Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from everylabel.backend.dataset.labelled_crops import LabelledCrop

CSV, PARQUET = "labels.csv", "labels.parquet"
LONGEST_LINK = 2000
"""An image may be in its address itself: such an address leads nowhere else, and is left out."""
_TYPES = {
    "task_id": "int64",
    "file_name": "string",
    "path": "string",
    "label": "string",
    "split": "string",
    "source": "string",
    "certificate": "int32",
    "round": "int32",
    "predicted": "string",
    "confidence": "float32",
    "annotators": "string",
    "agreement": "float32",
    "suspected": "bool_",
    "link": "string",
    "task_link": "string",
    "problem": "string",
}
"""The columns, and pyarrow's name of their types."""
COLUMNS = tuple(_TYPES)


@dataclass(frozen=True)
class Links:
    """The addresses of a project's crops and tasks, as a browser opens them."""

    label_studio: str
    """Where a browser finds Label Studio, without a slash at the end."""
    project_id: int

    def crop(self, url: str | None) -> str | None:
        """Return the address of a crop; None if there is none, or if the image is in the address itself."""
        if url is None or len(url) > LONGEST_LINK or url[:5].lower() == "data:":
            return None
        return f"{self.label_studio}{url}" if url.startswith("/") and not urlsplit(url).netloc else url

    def task(self, task_id: int) -> str:
        """Return the address of a task in Label Studio."""
        return f"{self.label_studio}/projects/{self.project_id}/data?task={task_id}"


def row(crop: LabelledCrop, path: str | None, problem: str | None, links: Links) -> dict[str, Any]:
    """Return a crop's line of the manifest, by column; what is not known is None.

    Args:
        crop: The crop.
        path: Its file within the data set, or None.
        problem: The reason why it has none, or None.
        links: Makes its addresses.
    """
    return {
        "task_id": crop.task_id,
        "file_name": crop.file_name or None,
        "path": path,
        "label": crop.label,
        "split": crop.split,
        "source": crop.source,
        "certificate": crop.certificate,
        "round": crop.round,
        "predicted": crop.predicted,
        "confidence": None if crop.confidence is None else round(crop.confidence, 4),
        "annotators": "; ".join(crop.annotators) or None,
        "agreement": None if crop.agreement is None else round(crop.agreement, 4),
        "suspected": crop.suspected,
        "link": links.crop(crop.url) if crop.text is None else None,
        "task_link": links.task(crop.task_id),
        "problem": problem,
    }


def write(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the manifest into a folder."""
    rows = list(rows)
    with (folder / CSV).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _written(value) for name, value in row.items()} for row in rows)
    if find_spec("pyarrow") is not None:
        import pyarrow as pa  # noqa: PLC0415 - installed with an extra
        from pyarrow import parquet  # noqa: PLC0415

        schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in _TYPES.items()])
        parquet.write_table(pa.Table.from_pylist(rows, schema), folder / PARQUET)


def read(folder: Path) -> list[dict[str, str]]:
    """Read the manifest of a data set: text by column, empty where nothing is known.

    Raises:
        OSError: There is none.
        ValueError: It is not a manifest.
    """
    with (folder / CSV).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if not {"task_id", "label", "split", "source", "file_name"} <= {*(reader.fieldnames or ())}:
            raise ValueError(f"{folder / CSV} lacks the columns task_id, label, split, source and file_name")
        return list(reader)


def _written(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value
