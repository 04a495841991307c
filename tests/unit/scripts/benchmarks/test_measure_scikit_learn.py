"""The measure of docs/dataset.md's lines of scikit-learn: they come near everylabel's own model."""

from __future__ import annotations

import pytest
import typer
from PIL import Image

from everylabel.scripts.benchmarks.measure_scikit_learn import SMALLEST, accuracies, main
from everylabel.scripts.replay.labelled_data import load


def test_scikit_learn_on_the_embeddings_comes_near_everylabel(encoder, tmp_path):
    own, embedded, pixels = accuracies(encoder, load("digits", tmp_path, limit=300), 150, 2)
    assert abs(own - embedded) < 0.03
    assert min(own, pixels) > 0.7


def test_a_data_set_that_is_too_small_is_told_in_a_sentence(tmp_path, capsys):
    for name, colour in (("cat", "red"), ("dog", "blue")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (32, 32), colour).save(tmp_path / "pets" / name / f"{number}.png")
    with pytest.raises((SystemExit, typer.Exit)):
        main([str(tmp_path / "pets")], crops=SMALLEST, runs=1, cache=tmp_path / "cache")
    said = " ".join(capsys.readouterr().err.split())
    assert "has 10 crops" in said
    assert "name a data set of 300 or more" in said
