"""Crops of several classes each, made of data sets of one class a crop."""

from __future__ import annotations

import numpy as np
import pytest

from everylabel.model import label_set
from everylabel.scripts.replay import labelled_data
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.several_classes import CELL, GRIDS, SEVERAL, load_several


@pytest.fixture
def few_garments(monkeypatch):
    """Fashion-MNIST need not be installed: a few grey squares of each class stand in for it."""
    names = labelled_data.FASHION_CLASSES * 4
    pixels = np.full((len(names), CELL, CELL), 90, dtype=np.uint8)
    pixels[:, 0, 0] = np.arange(len(names))
    monkeypatch.setattr(
        labelled_data, "_fashion", lambda: labelled_data.from_arrays("fashion", pixels, names)
    )


@pytest.mark.parametrize("name", list(SEVERAL))
def test_each_has_classes_that_stand_together_and_is_the_same_every_time(name, tmp_path, few_garments):
    crops = load_several(name, tmp_path, 40)
    assert len(crops) == 40
    held = [label_set.split(label) for label in crops.labels]
    assert all(all(one) for one in held), "a crop without a class could not be labelled"
    assert max(map(len, held)) > 1
    assert len({one for names in held for one in names}) >= 3
    again = load_several(name, tmp_path, 40)
    assert again.labels == crops.labels
    assert [again.digest(row) for row in range(40)] == [crops.digest(row) for row in range(40)]
    assert crops.open_image(3).width >= CELL


def test_a_digit_is_told_by_its_attributes(tmp_path):
    crops = load_several("digit attributes", tmp_path, 60)
    digits = labelled_data.load("digits", tmp_path, limit=60).labels
    assert {label for label, digit in zip(crops.labels, digits, strict=True) if digit == "8"} == {
        "even + high + loop"
    }
    assert {label for label, digit in zip(crops.labels, digits, strict=True) if digit == "1"} == {"plain"}


def test_a_grid_shows_as_many_things_as_it_has_classes(tmp_path):
    crops = load_several("digits in a grid", tmp_path, 40)
    for row, label in enumerate(crops.labels):
        picture = np.asarray(crops.open_image(row))
        fields = [picture[y : y + CELL, x : x + CELL] for y in (0, CELL) for x in (0, CELL)]
        assert sum(field.max() > 100 for field in fields) == len(label_set.split(label))
        assert {*label_set.split(label)} <= {*GRIDS["digits"]}


def test_an_unknown_name_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(DatasetError, match=r"named 'bogus'. Choose one of digit attributes, garment"):
        load_several("bogus", tmp_path)
