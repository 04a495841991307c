"""Keep predictions as they come, in whole lines on the disk, so that a run that was killed is taken up where it stopped."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from everylabel.scripts.predicting.pictures import Picture

FIELDS = ("file", "box", "class", "confidence", "novelty", "unlike", "error", "model")
"""The columns before those of the classes' probabilities."""
MODEL_DIGITS = 12
"""How much of a model's SHA-256 stands beside each prediction."""


class ResultsError(RuntimeError):
    """Results cannot be written or taken up; the message says what to do."""


class Results(ABC):
    """A file of predictions, a line each, to which whole lines alone are added.

    Args:
        path: the file; it is made, or taken up.
        classes: the model's classes.
        model: the start of the model's SHA-256.

    Raises:
        ResultsError: another process writes it, another model has, or it is not a file of predictions.
    """

    def __init__(self, path: Path, classes: Sequence[str], model: str) -> None:
        self.path, self.classes, self.model = path, tuple(classes), model
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("a+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ResultsError(
                f"Another process writes {path}: wait for it, or give another file with -o."
            ) from error
        except OSError as error:
            raise ResultsError(
                f"{path} cannot be written ({error.strerror}). Give another file with -o."
            ) from error
        self._file.seek(0)
        content = self._file.read()
        whole = content[: self._whole(content)]
        begins = min(len(content), len(self._start()))
        try:
            if not whole and content[:begins] != self._start()[:begins]:
                raise ValueError("it holds something else")
            self.done = {self._known(record) for record in self._read(whole)}
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise ResultsError(
                f"{path} is not a file of predictions of this model's classes ({error}). Give another file with -o."
            ) from error
        self._file.truncate(len(whole))
        if not whole:
            self._append(self._head())

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add predictions; they are on the disk when this returns."""
        self._append(b"".join(map(self._line, records)))

    def finish(self) -> None:
        """Close the file: all predictions are in it."""
        self._file.close()

    def _append(self, lines: bytes) -> None:
        try:
            self._file.write(lines)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ResultsError(
                f"{self.path} cannot be written ({error.strerror}). What it holds stays; run the command again to go on."
            ) from error

    def _known(self, record: Mapping[str, Any]) -> Picture:
        if record["model"] != self.model:
            raise ResultsError(
                f"{self.path} holds predictions of another model ({record['model']}, this one is {self.model}). Give another "
                "file with -o, or delete it."
            )
        return Picture(record["file"], record.get("box") or "")

    def _head(self) -> bytes:
        return b""

    @abstractmethod
    def _start(self) -> bytes:
        """Return the bytes that every such file begins with."""

    @abstractmethod
    def _whole(self, content: bytes) -> int:
        """Return how many bytes whole lines take: a process that is killed may leave half of one."""

    @abstractmethod
    def _read(self, content: bytes) -> Iterator[Mapping[str, Any]]:
        """Read whole lines."""

    @abstractmethod
    def _line(self, record: Mapping[str, Any]) -> bytes:
        """Return a prediction as a line."""


class JsonLines(Results):
    """A JSON object a line."""

    def records(self) -> Iterator[dict[str, Any]]:
        """Return the predictions so far."""
        self._file.seek(0)
        for line in self._file:
            yield json.loads(line)

    def _start(self) -> bytes:
        return b'{"file": "'

    def _whole(self, content: bytes) -> int:
        return content.rfind(b"\n") + 1

    def _read(self, content: bytes) -> Iterator[Mapping[str, Any]]:
        return map(json.loads, content.splitlines())

    def _line(self, record: Mapping[str, Any]) -> bytes:
        # ASCII, so that a file name that is no text in any encoding has a form too.
        return (
            json.dumps({name: value for name, value in record.items() if value not in ("", None)}).encode()
            + b"\n"
        )


class CsvLines(Results):
    """Comma-separated values with a head; file names with commas, quotes or line ends are quoted."""

    def _whole(self, content: bytes) -> int:
        whole = place = quotes = 0
        for line in content.splitlines(keepends=True):
            place += len(line)
            quotes += line.count(b'"')
            if line.endswith(b"\n") and quotes % 2 == 0:
                whole = place
        return whole

    def _read(self, content: bytes) -> Iterator[Mapping[str, Any]]:
        rows = csv.DictReader(io.StringIO(content.decode(errors="surrogateescape"), newline=""))
        if content and tuple(rows.fieldnames or ()) != columns(self.classes):
            raise ValueError("it has other columns")
        return rows

    def _head(self) -> bytes:
        return self._start()

    def _start(self) -> bytes:
        return _csv_line(columns(self.classes))

    def _line(self, record: Mapping[str, Any]) -> bytes:
        return csv_line(record, self.classes)


def columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a table of predictions."""
    return (*FIELDS, *(f"p({name})" for name in classes))


def csv_line(record: Mapping[str, Any], classes: Sequence[str]) -> bytes:
    """Return a prediction as a line of comma-separated values."""
    return _csv_line(
        str(value).lower() if isinstance(value, bool) else value for value in row(record, classes)
    )


def row(record: Mapping[str, Any], classes: Sequence[str]) -> tuple[Any, ...]:
    """Return the values of a prediction in the order of `columns`."""
    shares = record.get("probabilities") or {}
    return (*(record.get(name) for name in FIELDS), *(shares.get(name) for name in classes))


def write_csv(records: Iterable[Mapping[str, Any]], classes: Sequence[str], *, head: bool) -> None:
    """Write predictions to the standard output.

    Raises:
        BrokenPipeError: whoever reads it has read enough.
        ResultsError: it cannot be written.
    """
    try:
        if head:
            sys.stdout.buffer.write(_csv_line(columns(classes)))
        sys.stdout.buffer.write(b"".join(csv_line(record, classes) for record in records))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried once more
        raise ResultsError(
            f"The standard output cannot be written ({error.strerror}). Give a file with -o: a run that is broken off goes on "
            "there."
        ) from error


def _csv_line(values: Iterable[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode(errors="surrogateescape")
