"""Predictions as a Parquet file: lines in a file beside it until all are there, for a Parquet file is whole or nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from everylabel.backend.store.atomic_write import partial
from everylabel.scripts.predicting.results import FIELDS, JsonLines, ResultsError, columns, row

ROWS = 20_000
"""Predictions that are in memory at a time while the file is written."""


class ParquetTable(JsonLines):
    """A Parquet file that takes its place once all predictions are there.

    Raises:
        ResultsError: pyarrow is missing, or as for any results.
    """

    def __init__(self, path: Path, classes: Sequence[str], model: str) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra
            import pyarrow.parquet as pq  # noqa: PLC0415
        except ImportError as error:
            raise ResultsError(
                "A Parquet file needs pyarrow. Install it with: pip install 'everylabel[parquet]', or write a .csv or .jsonl."
            ) from error
        self._target, self._parquet, self._arrow = path, pq, pa
        working = path.with_name(f"{path.name}.partial")
        lines_before = working.exists() and working.stat().st_size > 0
        super().__init__(working, classes, model)
        if path.exists() and not lines_before:  # a run that was finished: more pictures may have come
            self._take_up(path)

    def finish(self) -> None:
        """Write the Parquet file, and delete the lines."""
        kinds = dict.fromkeys(columns(self.classes), self._arrow.float32())
        kinds |= dict.fromkeys(FIELDS, self._arrow.string())
        kinds |= dict.fromkeys(("confidence", "novelty"), self._arrow.float32()) | {
            "unlike": self._arrow.bool_()
        }
        schema = self._arrow.schema(list(kinds.items()))
        whole = partial(self._target)
        try:
            with self._parquet.ParquetWriter(whole, schema) as writer:
                records = self.records()
                while part := [_utf8(row(record, self.classes)) for record in islice(records, ROWS)]:
                    arrays = [
                        self._arrow.array(values, kind)
                        for values, kind in zip(zip(*part, strict=True), kinds.values(), strict=True)
                    ]
                    writer.write_table(self._arrow.Table.from_arrays(arrays, schema=schema))
            with whole.open("rb") as file:
                os.fsync(file.fileno())
            whole.replace(self._target)
        except OSError as error:
            raise ResultsError(
                f"{self._target} cannot be written ({error.strerror}). The predictions are in {self.path}; run the command "
                "again to go on."
            ) from error
        finally:
            whole.unlink(missing_ok=True)
        super().finish()
        with suppress(FileNotFoundError):
            self.path.unlink()

    def _take_up(self, path: Path) -> None:
        try:
            found = self._parquet.read_table(path)
            if tuple(found.column_names) != columns(self.classes):
                raise ResultsError(
                    f"{path} is not a file of predictions of this model's classes. Give another file with -o."
                )
        except (OSError, self._arrow.ArrowException) as error:
            raise ResultsError(
                f"{path} cannot be read as Parquet ({error}). Give another file with -o."
            ) from error
        for batch in found.to_batches(max_chunksize=ROWS):
            records = [self._record(values) for values in batch.to_pylist()]
            self.done |= {self._known(record) for record in records}
            self.add(records)

    def _record(self, values: dict[str, Any]) -> dict[str, Any]:
        shares = {name: values.pop(f"p({name})") for name in self.classes}
        return values | ({} if values["error"] else {"probabilities": shares})


def _utf8(values: Sequence[Any]) -> list[Any]:
    """Return values as Parquet holds them: a file name that is no UTF-8 with its odd bytes escaped."""
    return [
        value.encode(errors="surrogateescape").decode(errors="backslashreplace")
        if isinstance(value, str)
        else value
        for value in values
    ]
