"""The measure of docs/dataset.md's ten lines: they come near everylabel's own model."""

from __future__ import annotations

from everylabel.scripts.benchmarks.measure_scikit_learn import accuracies
from everylabel.scripts.replay.labelled_data import load


def test_scikit_learn_on_the_embeddings_comes_near_everylabel(encoder, tmp_path):
    own, embedded, pixels = accuracies(encoder, load("digits", tmp_path, limit=300), 150, 2)
    assert abs(own - embedded) < 0.03
    assert min(own, pixels) > 0.7
