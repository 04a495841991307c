"""The crops of a page: alike, and as little confident as one glance allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from everylabel.backend.label_pages.choosing import (
    FRONTIER,
    PAGE,
    PredictedCrops,
    best_class,
    choose_of_class,
)
from everylabel.backend.label_pages.glance import is_too_fast
from everylabel.backend.label_pages.keys import class_keys
from tests.stand_in_label_studio import label_config


def crops(confidence, positions=None, codes=None, classes=("a", "b")):
    n = len(confidence)
    return PredictedCrops(
        np.arange(1, n + 1),
        np.zeros(n, dtype=np.int64) if codes is None else np.asarray(codes),
        np.asarray(confidence, dtype=np.float32),
        np.full((n, 2), np.nan) if positions is None else np.asarray(positions, dtype=np.float32),
        classes,
    )


def test_the_least_confident_crops_that_one_glance_allows_come_first():
    confidence = np.linspace(0.5, 0.999, 200)
    page = choose_of_class(crops(confidence))
    chosen = confidence[np.asarray(page) - 1]
    assert len(page) == PAGE
    assert chosen.min() >= FRONTIER
    assert chosen.max() < confidence[confidence >= FRONTIER][PAGE + 1]
    assert (np.diff(chosen) >= 0).all()


def test_where_too_few_are_so_confident_the_next_best_fill_the_page():
    page = choose_of_class(crops([0.95, 0.3, 0.6, 0.7]), size=3)
    assert sorted(page) == [1, 3, 4]


def test_a_page_is_made_of_crops_that_lie_beside_each_other():
    rng = np.random.default_rng(0)
    place = np.repeat([[0.0, 0.0], [100.0, 100.0]], 60, axis=0) + rng.normal(size=(120, 2))
    confidence = rng.uniform(0.9, 0.95, size=120)
    page = np.asarray(choose_of_class(crops(confidence, place))) - 1
    assert len({bool(row < 60) for row in page}) == 1


def test_a_crop_that_is_not_on_the_map_yet_is_on_a_page_too():
    assert len(choose_of_class(crops([0.95] * 5, [[0, 0], [np.nan, np.nan], [1, 1], [0, 1], [1, 0]]))) == 5
    assert choose_of_class(crops([])) == []


def test_the_class_with_the_most_confident_crops_comes_first():
    found = crops([0.95, 0.5, 0.5, 0.5], codes=[1, 0, 0, 0])
    assert best_class(found, ("a", "b")) == "b"
    assert best_class(found.of("a"), ("a", "b")) == "a"
    assert best_class(crops([]), ("a", "b")) is None


@pytest.mark.parametrize(("seconds", "too_fast"), [(0.5, True), (1.6, True), (1.7, False), (20, False)])
def test_nobody_looks_at_24_crops_in_less_than_the_quickest_eye_takes(seconds, too_fast):
    assert is_too_fast(seconds, 24) is too_fast


def test_a_class_has_the_key_that_the_config_gives_it_or_the_next_free_one():
    config = label_config("a", "b", "c").replace('value="b"', 'value="b" hotkey="1"')
    assert class_keys(config) == {"a": "2", "b": "1", "c": "3"}
    many = class_keys(label_config(*(f"class {n}" for n in range(40))))
    assert len(many) == len({*many.values()}) == 25


def test_of_several_classes_a_crop_counts_for_each_and_keeps_its_whole_set():
    found = replace(crops([0.95, 0.6, 0.92], codes=[0, 1, 2], classes=("a + b", "b", "a + c")), several=True)
    assert found.counts() == {"a": 2, "b": 2, "c": 1}
    assert found.of("a").tasks.tolist() == [1, 3]
    assert found.of("a + b").tasks.tolist() == [], "it is no class"
    assert found.labels([3, 1]) == {3: "a + c", 1: "a + b"}
    assert best_class(found, ("b", "a", "c")) == "a", "it has the most confident crops"


def test_of_one_class_a_crop_a_name_is_never_taken_apart():
    found = crops([0.95, 0.6], codes=[0, 1], classes=("a + b", "b"))
    assert found.counts() == {"a + b": 1, "b": 1}
    assert found.of("b").tasks.tolist() == [2]
