"""Results that a killed process left are taken up: no prediction twice, none lost, and no file of anybody else's harmed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from everylabel.scripts.commands.predict import FORMATS
from everylabel.scripts.predicting.pictures import Picture
from everylabel.scripts.predicting.results import CsvLines, JsonLines, Results, ResultsError

CLASSES = ("cat", "dog, wild")
NAMES = ["a.png", 'quotes ".png', "comma,.png", "line\nend.png", "odd\udcff.png", "umlaut ä.png"]


def record(name: str, box: str = "") -> dict[str, Any]:
    return {
        "file": name,
        "box": box,
        "model": "abc",
        "class": "cat",
        "confidence": 0.75,
        "novelty": 0.5,
        "unlike": False,
        "probabilities": {"cat": 0.75, "dog, wild": 0.25},
    }


def names(path: Path) -> list[str]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return [row["file"] for row in csv.DictReader(file)]
    return [json.loads(line)["file"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", [CsvLines, JsonLines])
def test_a_file_cut_off_anywhere_is_taken_up(tmp_path: Path, kind: type[Results]) -> None:
    path = tmp_path / ("out.csv" if kind is CsvLines else "out.jsonl")
    whole = kind(path, CLASSES, "abc")
    whole.add([record(name) for name in NAMES])
    whole.finish()
    content = path.read_bytes()
    assert names(path) == NAMES
    for length in range(0, len(content) + 1, 3):
        path.write_bytes(content[:length])
        results = kind(path, CLASSES, "abc")
        results.add([record(name) for name in NAMES if Picture(name) not in results.done])
        results.finish()
        assert path.read_bytes() == content, length


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_finished_file_takes_more_pictures_in(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path, kind = tmp_path / f"out{suffix}", FORMATS[suffix]
    for part in (NAMES[:2], NAMES[2:4], []):
        results = kind(path, CLASSES, "abc")
        results.add([record(name) for name in part])
        results.finish()
    again = kind(path, CLASSES, "abc")
    assert {picture.path for picture in again.done} == {*NAMES[:4]}


def test_a_parquet_file_is_whole_or_not_there(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "out.parquet"
    killed = FORMATS[".parquet"](path, CLASSES, "abc")
    killed.add([record(NAMES[0]), {"file": "bad.png", "model": "abc", "error": "damaged"}])
    killed._file.close()  # as by a kill: nothing is written any more
    assert not path.exists()
    results = FORMATS[".parquet"](path, CLASSES, "abc")
    assert results.done == {Picture(NAMES[0]), Picture("bad.png")}
    results.add([record(NAMES[4], box="1 2 3 4")])
    results.finish()
    assert [found.name for found in tmp_path.iterdir()] == ["out.parquet"]
    first, bad, last = parquet.read_table(path).to_pylist()
    assert (first["class"], first["p(dog, wild)"], first["unlike"]) == ("cat", 0.25, False)
    assert (bad["error"], bad["p(cat)"]) == ("damaged", None)
    assert (last["file"], last["box"]) == (r"odd\xff.png", "1 2 3 4")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    for content in (b"my notes", b"my notes\n", b'{"a": 1}\n', b"file,class\na.png,cat\n"):
        path.write_bytes(content)
        with pytest.raises(ResultsError, match="not a file of predictions"):
            FORMATS[suffix](path, CLASSES, "abc")
        assert path.read_bytes() == content


def test_predictions_of_another_model_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    first = CsvLines(path, CLASSES, "abc")
    first.add([record("a.png")])
    first.finish()
    with pytest.raises(ResultsError, match="another model"):
        CsvLines(path, CLASSES, "def")


def test_two_processes_never_write_one_file(tmp_path: Path) -> None:
    first = CsvLines(tmp_path / "out.csv", CLASSES, "abc")
    with pytest.raises(ResultsError, match="Another process"):
        CsvLines(tmp_path / "out.csv", CLASSES, "abc")
    first.finish()
    CsvLines(tmp_path / "out.csv", CLASSES, "abc").finish()
