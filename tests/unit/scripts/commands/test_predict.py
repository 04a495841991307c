"""`everylabel predict`: pictures in, a line for each out, whatever happens to single files or to the process."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from everylabel.model import encoders
from everylabel.model.classifiers import EmbeddingClassifier
from everylabel.model.exported.compose import to_onnx
from everylabel.model.exported.novelty import Novelty
from everylabel.scripts.cli import app


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that tells dark crops from bright ones by their pixels, and knows nothing but plain ones."""
    encoder = encoders.create("direct-cnn", device="cpu")
    crops = np.stack(
        [np.full((64, 64, 3), level, dtype=np.uint8) for level in [*range(20, 60), *range(200, 240)]]
    )
    rows = encoder.encode(crops)
    classifier = EmbeddingClassifier().adapt(rows).fit(rows, ["dark"] * 40 + ["bright"] * 40)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    path.write_bytes(to_onnx(encoder, classifier, Novelty.measured(rows, by_direction=False)))
    return path


def plain(path: Path, level: int, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)
    return path


def run(*arguments: object, given: str = "") -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments), "--threads", "1"], input=given)


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({(row["file"], row["box"]) for row in rows}) == len(rows), "a picture came twice"
    return {Path(row["file"]).name + row["box"]: row for row in rows}


def test_pictures_are_predicted_and_broken_ones_named(model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "new", tmp_path / "out.csv"
    plain(folder / "dark.png", 30, (64, 64))
    plain(folder / "deep" / "bright.tif", 220, (64, 64))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.webp")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff half a picture")
    (folder / "empty.png").touch()
    (folder / "readme.txt").touch()
    done = run("--model", model, folder, folder / "missing.png", "-o", out)
    assert done.exit_code == 0, done.stderr
    found = table(out)
    assert (found["dark.png"]["class"], found["bright.tif"]["class"]) == ("dark", "bright")
    assert found["dark.png"]["unlike"] == found["bright.tif"]["unlike"] == "false"
    assert found["noise.webp"]["unlike"] == "true"
    assert {name for name, row in found.items() if row["error"]} == {"broken.jpg", "empty.png", "missing.png"}
    for words in (
        "broken.jpg",
        "missing.png: No such file",
        "3 files passed over",
        "1 picture (33.3%) unlike",
    ):
        assert words in done.stderr, words
    share = float(found["dark.png"]["p(bright)"]) + float(found["dark.png"]["p(dark)"])
    assert share == pytest.approx(1, abs=1e-4)


def test_a_name_that_leads_to_no_file_is_passed_over_and_not_waited_for(model: Path, tmp_path: Path) -> None:
    plain(tmp_path / "dark.png", 30)
    os.mkfifo(tmp_path / "pipe.png")
    writer = os.open(
        tmp_path / "pipe.png", os.O_RDWR | os.O_NONBLOCK
    )  # who reads from it waits until this ends
    ends = threading.Timer(20, os.close, [writer])
    ends.start()
    done = run("--model", model, tmp_path, "-o", tmp_path / "out.csv")
    ends.cancel()
    assert done.exit_code == 0
    found = table(tmp_path / "out.csv")
    assert found["dark.png"]["class"] == "dark"
    assert found["pipe.png"]["error"] == "it is not a file"


def test_an_output_that_takes_no_more_is_told_in_a_line(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "everylabel.scripts.cli", "predict", "--model", str(model)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*command, str(plain(tmp_path / "dark.png", 30))],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert "The standard output cannot be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr


def test_only_where_every_picture_fails_is_it_an_error(model: Path, tmp_path: Path) -> None:
    assert run("--model", model, tmp_path / "missing.png").exit_code == 1
    assert run("--model", tmp_path / "missing.onnx", tmp_path).exit_code == 1
    assert run("--model", model, tmp_path, "-o", tmp_path / "out.xlsx").exit_code == 1
    empty = run("--model", model, tmp_path)
    assert (empty.exit_code, "0 pictures predicted" in empty.stderr) == (0, True)


def test_paths_come_from_the_standard_input_and_predictions_go_to_the_output(
    model: Path, tmp_path: Path
) -> None:
    done = run(
        "--model", model, "-", given=f"{plain(tmp_path / 'a.png', 30)}\n{plain(tmp_path / 'b.png', 210)}\n"
    )
    lines = list(csv.DictReader(done.stdout.splitlines()))
    assert [(Path(row["file"]).name, row["class"]) for row in lines] == [
        ("a.png", "dark"),
        ("b.png", "bright"),
    ]


def test_boxes_in_one_picture_are_crops_of_their_own(model: Path, tmp_path: Path) -> None:
    picture = Image.new("RGB", (200, 100), (30, 30, 30))
    picture.paste((220, 220, 220), (100, 0, 200, 100))
    picture.save(tmp_path / "both.png")
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(
        "path,box\nboth.png,0 0 64 64\nboth.png,110 10 64 64\nboth.png,300 0 5 5\nboth.png,wrong\n"
    )
    out = tmp_path / "out.csv"
    assert run("--model", model, boxes, "--boxes", "box", "-o", out).exit_code == 0
    found = table(out)
    assert found["both.png0 0 64 64"]["class"] == "dark"
    assert found["both.png110 10 64 64"]["class"] == "bright"
    assert "not on the picture" in found["both.png300 0 5 5"]["error"]
    assert "width, height" in found["both.pngwrong"]["error"]


def test_a_run_that_is_killed_twice_has_each_picture_once_and_none_is_lost(
    model: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "many", tmp_path / "out.csv"
    names = {plain(folder / f"{number:04d}.png", number % 256, (64, 64)).name for number in range(600)}
    command = [sys.executable, "-m", "everylabel.scripts.cli", "predict", "--model", model, folder, "-o", out]
    killed, before = 0, 0
    while killed < 2:
        process = subprocess.Popen([*map(str, command), "--threads", "1"], stderr=subprocess.DEVNULL)
        while process.poll() is None and (not out.exists() or out.stat().st_size < before + 3000):
            time.sleep(0.005)
        assert process.poll() is None, "it had finished before it could be killed: give it more pictures"
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed, before = killed + 1, out.stat().st_size
    done = run("--model", model, folder, "-o", out)
    assert done.exit_code == 0
    assert "had been predicted before" in done.stderr
    assert table(out).keys() == names
    assert all(row["class"] for row in table(out).values())
    assert "Nothing is left to predict" in run("--model", model, folder, "-o", out).stderr
