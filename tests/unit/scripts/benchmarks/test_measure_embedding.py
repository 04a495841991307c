"""`everylabel benchmark --embed` measures the pipeline that embeds projects, on crops that all have to be encoded."""

from __future__ import annotations

import json
import shutil
import statistics

import pytest
from PIL import Image
from typer.testing import CliRunner

from everylabel.scripts.benchmarks import measure_embedding
from everylabel.scripts.cli import app


def test_it_prints_the_pipeline_beside_the_encoder_and_writes_the_ratio(tmp_path):
    result = CliRunner().invoke(
        app,
        ["benchmark", "--embed", "--encoder", "direct-cnn", "--crops", "80", "--json", f"{tmp_path}/e.json"],
    )
    assert result.exit_code == 0, result.output
    assert "crops a second" in result.output
    found = json.loads((tmp_path / "e.json").read_text())["embedding"]
    assert found["crops"] == 80
    assert found["picture"] == "256 x 256"
    assert len(found["bare"]) == len(found["pipeline"]) == len(found["at_most"]) >= 1
    expected = [a / b for a, b in zip(found["pipeline"], found["bare"], strict=True)]
    assert found["ratio"] == pytest.approx(statistics.median(expected))
    assert found["machine"]["cores"] >= 1
    assert found["command"].startswith("everylabel benchmark --embed --encoder direct-cnn")


def test_a_folder_of_ones_own_is_taken_without_its_duplicates(tmp_path):
    for i in range(70):
        Image.new("RGB", (90 + i % 4, 60), (i, 2 * i, 90)).save(tmp_path / f"{i}.jpg")
    shutil.copy(tmp_path / "3.jpg", tmp_path / "again.jpg")
    found = measure_embedding.measure("direct-cnn", "cpu", folder=tmp_path, runs=1)
    assert found.crops == 70
    assert found.picture == "90 to 93"


def test_what_is_wrong_is_said(tmp_path):
    result = CliRunner().invoke(app, ["benchmark", "--embed", "--images", str(tmp_path)])
    assert result.exit_code == 1
    assert "64 or more are needed" in result.output
    result = CliRunner().invoke(app, ["benchmark"])
    assert "--embed" in result.output
