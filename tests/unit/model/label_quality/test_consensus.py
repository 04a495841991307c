import math

import numpy as np
import pytest

from everylabel.model.label_quality.consensus import find_consensus


def crowd(n: int = 120, seed: int = 0):
    """Two careful annotators and one who is wrong half of the time; each labels two thirds of the crops."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(3, size=n)
    x = (np.random.default_rng(5).standard_normal((3, 64))[codes] + rng.standard_normal((n, 64))).astype(
        np.float32
    )
    truth = [f"kind {code}" for code in codes]
    votes: list[list[str | None]] = []
    for wrong in (0.02, 0.05, 0.5):
        flipped = rng.random(n) < wrong
        given = [f"kind {(code + rng.integers(1, 3)) % 3}" if bad else f"kind {code}"
                 for code, bad in zip(codes, flipped, strict=True)]  # fmt: skip
        seen = rng.random(n) < 0.67
        votes.append([label if here else None for label, here in zip(given, seen, strict=True)])
    return x, truth, votes


def test_disagreements_are_resolved_better_than_by_counting():
    better, counted = 0, 0
    for seed in range(5):
        x, truth, votes = crowd(seed=seed)
        for crop in find_consensus(votes, ["ann", "bob", "cas"], x).crops:
            given = [row[crop.index] for row in votes if row[crop.index] is not None]
            if len(set(given)) > 1:
                better += crop.label == truth[crop.index]
                counted += sorted(given, key=lambda name: (-given.count(name), name))[0] == truth[crop.index]
    assert better > counted + 10


def test_an_undisputed_label_stands_with_a_quality_that_tells_uncertainty():
    x, truth, votes = crowd()
    votes = [list(row) for row in votes]
    wrong = "kind 0" if truth[3] != "kind 0" else "kind 1"
    votes[0][3], votes[1][3], votes[2][3] = wrong, None, None
    found = {crop.index: crop for crop in find_consensus(votes, ["ann", "bob", "cas"], x).crops}
    assert found[3].label == wrong
    assert found[3].quality < np.median([crop.quality for crop in found.values()])


def test_crops_nobody_labelled_and_annotators_without_labels_are_left_out():
    x, _, votes = crowd()
    votes = [[None, *row[1:]] for row in votes]
    found = find_consensus([*votes, [None] * len(x)], ["ann", "bob", "cas", "dee"], x)
    assert 0 not in [crop.index for crop in found.crops]
    assert found == find_consensus(votes, ["ann", "bob", "cas"], x)


@pytest.mark.parametrize(
    "votes", [[["a", None, "b"], [None, "b", None]], [["a", "a", "a"], ["a", None, "a"]]]
)
def test_with_nothing_to_weigh_labels_stay(votes):
    found = find_consensus(votes, ["ann", "bob"], np.eye(3, dtype=np.float32))
    assert [crop.label for crop in found.crops] == [
        next(v for v in pair if v) for pair in zip(*votes, strict=True)
    ]
    assert all(math.isnan(crop.quality) for crop in found.crops)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="3 annotators and a column for each of 2"):
        find_consensus([["a", "b"]], ["ann", "bob", "cas"], np.eye(2))


def test_the_careless_annotator_has_the_lowest_quality_and_disputed_crops_come_first():
    x, _, votes = crowd()
    found = find_consensus(votes, ["ann", "bob", "cas"], x)
    assert found.quality["cas"] < min(found.quality["ann"], found.quality["bob"]) - 0.2
    assert sorted(found.second_labels) == [crop.index for crop in found.crops]

    def disputed(crops):
        return sum(len({row[crop] for row in votes if row[crop] is not None}) > 1 for crop in crops)

    assert disputed(found.second_labels[:20]) > 2 * disputed(found.second_labels[-20:])


def test_where_nobody_shares_a_crop_nobody_is_rated():
    found = find_consensus([["a", None], [None, "b"]], ["ann", "bob"], np.eye(2, dtype=np.float32))
    assert (found.quality, found.second_labels) == ({}, [])
