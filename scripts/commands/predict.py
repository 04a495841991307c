"""`everylabel predict`: predict new pictures with an exported model. No torch is loaded, and no Label Studio is asked."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from everylabel.backend.images.decoding_limits import ImageLimits
from everylabel.model.exported.model_file import ExportedModel, ModelFileError
from everylabel.scripts.console import counted, errors, fail, progress
from everylabel.scripts.predicting.parquet import ParquetTable
from everylabel.scripts.predicting.pictures import SUFFIXES, TEXT_SUFFIXES, PicturesError, find_pictures
from everylabel.scripts.predicting.predicting import predict_pictures
from everylabel.scripts.predicting.results import (
    MODEL_DIGITS,
    CsvLines,
    JsonLines,
    Results,
    ResultsError,
    write_csv,
)

FORMATS: dict[str, type[Results]] = {".csv": CsvLines, ".jsonl": JsonLines, ".parquet": ParquetTable}
MOST_NAMED = 20
"""Files that cannot be read and are named one by one; the results hold all of them."""
USUAL = 0.05
"""Share of the pool's own kind that is flagged at most."""


def run(
    model: Path,
    sources: Sequence[str],
    output: Path | None,
    *,
    box_column: str | None = None,
    text_column: str | None = None,
    threads: int | None = None,
) -> None:
    """Predict the pictures or texts that the results do not hold yet."""
    try:
        loaded = ExportedModel(model, threads)
        _check_columns(loaded, box_column, text_column)
        pictures = find_pictures(
            sources,
            sys.stdin.buffer,
            box_column=box_column,
            text_column=text_column,
            suffixes=TEXT_SUFFIXES if loaded.reads == "text" else SUFFIXES,
        )
        results = None if output is None else _results(output, loaded)
    except (ModelFileError, PicturesError, ResultsError) as error:
        fail(error)
    if pictures.passed_over:
        called = "texts (.txt)" if loaded.reads == "text" else "pictures"
        errors.print(f"{counted(pictures.passed_over, 'file')} in the folders are not called like {called}.")
    thing = "text" if loaded.reads == "text" else "picture"
    new = [one for one in pictures.found if results is None or one not in results.done]
    _say_what_is_done(len(pictures.found) - len(new), len(new), output, thing)
    tally: Counter[str] = Counter()
    try:
        with progress(errors) as report:
            batches = predict_pictures(loaded, new, ImageLimits(), threads or os.cpu_count() or 1)
            for records in _shown(batches, tally):
                if results is None:
                    write_csv(records, loaded.classes, head=tally["pictures"] == len(records))
                else:
                    results.add(records)
                report("Predicting", tally["pictures"], len(new))
        if results is not None:
            results.finish()
    except ResultsError as error:
        fail(error)
    except BrokenPipeError:  # whoever reads the standard output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if new or not pictures.found:
        _summarise(tally, output, thing)
    if tally["pictures"] and tally["broken"] == tally["pictures"]:
        raise typer.Exit(1)


def _results(output: Path, model: ExportedModel) -> Results:
    kind = FORMATS.get(output.suffix.lower())
    if kind is None:
        raise ResultsError(f"{output} does not end in {', '.join(FORMATS)}: the name says how it is written.")
    return kind(output, model.classes, model.digest[:MODEL_DIGITS])


def _check_columns(model: ExportedModel, box_column: str | None, text_column: str | None) -> None:
    if model.reads == "text" and box_column is not None:
        raise PicturesError(
            "The model reads texts, which have no boxes: name the column of texts with --text."
        )
    if model.reads != "text" and text_column is not None:
        raise PicturesError("The model reads pictures, and --text is for models of texts.")


def _say_what_is_done(done: int, new: int, output: Path | None, thing: str) -> None:
    if done and new:
        _say(f"{counted(done, thing)} had been predicted before.")
    elif done:
        _say(f"Nothing is left to predict: {output} holds {counted(done, thing)}, all that were named.")


def _shown(batches: Iterable[list[dict[str, Any]]], tally: Counter[str]) -> Iterator[list[dict[str, Any]]]:
    """Count what is predicted, and name each file that is not."""
    for records in batches:
        for record in records:
            tally["pictures"] += 1
            if "error" not in record:
                tally["unlike"] += bool(record["unlike"])
                tally["by class", record["class"]] += 1  # type: ignore[index]
                continue
            tally["broken"] += 1
            if tally["broken"] <= MOST_NAMED:
                _say(f"passed over: {_printable(record['file'])}: {record['error']}")
            elif tally["broken"] == MOST_NAMED + 1:
                _say("passed over: more files, which the results name")
        yield records


def _summarise(tally: Mapping[Any, int], output: Path | None, thing: str) -> None:
    predicted = tally["pictures"] - tally["broken"]
    where = "" if output is None else f" in {output}"
    by_class = ", ".join(f"{name[1]} {number:,}" for name, number in tally.items() if isinstance(name, tuple))
    _say(f"{counted(predicted, thing)} predicted{where}" + (f": {by_class}." if by_class else "."))
    if tally["broken"]:
        _say(
            f"{counted(tally['broken'], thing if thing == 'text' else 'file')} passed over, which could not be read."
        )
    if tally["unlike"]:
        share = tally["unlike"] / predicted
        asked = "do they come from elsewhere?" if thing == "text" else "has the camera changed?"
        more = f", more than the {USUAL:.0%} of one's own that may be: {asked}" if share > USUAL else "."
        _say(f"{counted(tally['unlike'], thing)} ({share:.1%}) unlike all that the model knows{more}")


def _say(words: str) -> None:
    errors.print(escape(words), soft_wrap=True, highlight=False)


def _printable(path: str) -> str:
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")
