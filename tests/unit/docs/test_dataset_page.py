"""The examples of docs/dataset.md, run on an exported data set: a few lines of scikit-learn come near the model of everylabel."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from everylabel.backend.dataset.export import Options, export
from everylabel.scripts.benchmarks import measure_scikit_learn
from tests.stand_in_label_studio import CLASSES, data_uri, png

PAGE = Path(__file__).resolve().parents[3] / "docs" / "dataset.md"
LEARNED, CHECKED = 100, 300
"""Crops that are learned from and checked: so many that one of them is a third of a point, as another processor may round it."""


def examples() -> dict[str, str]:
    """The Python of the page, by what it imports last."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return {re.findall(r"^(?:import|from) (\w+)", block, re.MULTILINE)[-1]: block for block in blocks}


@pytest.fixture
def cells(stand_in, services, tmp_path):
    """A data set of 400 digits 0 to 3 in the folder `cells`; 300 of them, at random, are its test set."""
    digits = load_digits(n_class=len(CLASSES))
    rows = np.random.default_rng(0).permutation(len(digits.images))[: LEARNED + CHECKED]
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(data_uri(png(digits.images[row])) for row in rows))
    for task, row in zip(ids, rows, strict=True):
        stand_in.annotate(task, CLASSES[int(digits.target[row])])
    services.loop.sync(1)
    services.store.save_project(1, check_tasks=ids[-CHECKED:])
    export(services, 1, tmp_path / "cells", Options("people", copy=True))
    return tmp_path / "cells"


def score(code: str, folder: Path) -> float:
    """Run an example beside the data set; return the share that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    share, number = re.fullmatch(r"([\d.]+)% of (\d+) blind check crops\n", done.stdout).groups()
    assert int(number) == CHECKED
    return float(share)


def everylabels(encoder, folder: Path) -> float:
    """The share that the classifier of everylabel is right on, trained on the same crops."""
    paths = {split: sorted((folder / split).glob("*/*.png")) for split in ("train", "test")}
    rows = {split: encoder.encode(np.stack([encoder.prepare(Image.open(path).convert("RGB")) for path in found]))
            for split, found in paths.items()}  # fmt: skip
    labels = {split: np.array([path.parent.name for path in found]) for split, found in paths.items()}
    classifier = encoder.make_classifier().adapt(rows["train"]).fit(rows["train"], labels["train"].tolist())
    said = np.array(classifier.classes_)[classifier.predict_proba(rows["test"]).argmax(axis=1)]
    return 100 * float((said == labels["test"]).mean())


@pytest.mark.extended
def test_a_few_lines_of_scikit_learn_come_near_the_model_of_everylabel(cells, encoder):
    embedded = examples()["everylabel"]
    assert (
        len([line for line in embedded.splitlines() if line and not line.startswith(("import", "from"))])
        <= 12
    )
    assert abs(score(embedded, cells) - everylabels(encoder, cells)) <= 2


def test_pixels_alone_do_for_digits(cells):
    assert score(examples()["sklearn"], cells) > 90


def model_of(code: str) -> object:
    """The untrained model of an example: what its imports and its calls of `make_…` come to."""
    names: dict[str, object] = {}
    for step in ast.parse(code).body:
        if isinstance(step, ast.Import | ast.ImportFrom):
            exec(ast.unparse(step), names)
        elif isinstance(step, ast.Assign):
            calls = [
                n for n in ast.walk(step.value) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            ]
            made = [call for call in calls if call.func.id.startswith("make_")]
            if made:  # the outermost comes first
                names[step.targets[0].id] = eval(ast.unparse(made[0]), names)
    return names["model"]


def test_the_models_of_the_page_are_those_that_its_table_was_measured_with():
    found = examples()
    shown = [repr(model_of(found[name])) for name in ("everylabel", "sklearn")]
    assert shown == [repr(model) for model in measure_scikit_learn._models()]
