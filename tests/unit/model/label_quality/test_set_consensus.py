"""Sets of classes by several annotators: each class is weighed by itself, and what is said of a crop follows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from everylabel.model import label_set
from everylabel.model.classifiers.multi_label import MultiLabelClassifier
from everylabel.model.label_quality import find_set_consensus

NAMES = np.array(["bent", "crack", "dirt", "rust"])
ANNOTATORS = ["ann", "bob", "cas"]


def crowd(n: int = 120, seed: int = 0):
    """Two careful annotators and one who gives another crop's set half of the time; each labels two thirds of the crops."""
    rng = np.random.default_rng(seed)
    held = rng.random((n, len(NAMES))) < 0.4
    held[~held.any(axis=1), 1] = True
    directions = np.random.default_rng(5).standard_normal((len(NAMES), 64))
    x = (held @ directions + 0.5 * rng.standard_normal((n, 64))).astype(np.float32)
    votes: list[list[str | None]] = []
    for wrong in (0.01, 0.02, 0.5):
        swapped = rng.random(n) < wrong
        given = np.where(swapped[:, None], held[rng.permutation(n)], held)
        seen = rng.random(n) < 0.67
        votes.append(
            [label_set.join(NAMES[row]) if here else None for row, here in zip(given, seen, strict=True)]
        )
    return x, [label_set.join(NAMES[row]) for row in held], votes


def given_to(votes, crop):
    return [row[crop] for row in votes if row[crop] is not None]


def test_disagreements_are_resolved_better_than_by_counting_sets():
    better, counted = 0, 0
    for seed in range(3):
        x, truth, votes = crowd(seed=seed)
        for crop in find_set_consensus(votes, ANNOTATORS, x).crops:
            given = given_to(votes, crop.index)
            if len(set(given)) > 1:
                better += crop.label == truth[crop.index]
                counted += sorted(given, key=lambda name: (-given.count(name), name))[0] == truth[crop.index]
    assert better > counted + 10


def test_a_class_that_all_who_labelled_a_crop_agree_on_stands():
    x, truth, votes = crowd()
    both = next(i for i in range(len(x)) if votes[0][i] == votes[1][i] == truth[i] and votes[2][i] is None)
    one_more = next(name for name in NAMES if name not in label_set.split(truth[both]))
    votes[0][both] = votes[1][both] = label_set.join([*label_set.split(truth[both]), one_more])
    found = {crop.index: crop for crop in find_set_consensus(votes, ANNOTATORS, x).crops}
    assert found[both].label == votes[0][both]
    assert found[both].quality < np.median([crop.quality for crop in found.values()])


def test_the_careless_annotator_has_the_lowest_quality_and_it_is_near_the_truth():
    x, truth, votes = crowd(240)
    found = find_set_consensus(votes, ANNOTATORS, x)
    assert found.quality["cas"] < min(found.quality["ann"], found.quality["bob"]) - 0.2
    for name, row in zip(ANNOTATORS, votes, strict=True):
        right = [vote == true for vote, true in zip(row, truth, strict=True) if vote is not None]
        assert found.quality[name] == pytest.approx(np.mean(right), abs=0.1)


def test_crops_whose_set_is_wrong_are_asked_for_first():
    x, truth, votes = crowd(240)
    found = find_set_consensus(votes, ANNOTATORS, x)
    assert sorted(found.second_labels) == [crop.index for crop in found.crops]
    told = {crop.index: crop.label for crop in found.crops}

    def wrong(crops):
        return sum(told[crop] != truth[crop] for crop in crops)

    assert wrong(told) > 5
    assert wrong(found.second_labels[: len(told) // 4]) > 0.8 * wrong(told)


def test_a_crop_of_which_no_class_is_left_has_the_set_that_was_given():
    """Nothing ticked says nothing, so a set is never empty."""
    x, _, votes = crowd()
    crop = 7
    votes[0][crop], votes[1][crop], votes[2][crop] = "bent", "dirt", "rust"
    x[crop] = -np.abs(x).max() * np.sign(np.random.default_rng(5).standard_normal((4, 64)).sum(axis=0))
    (label,) = [one.label for one in find_set_consensus(votes, ANNOTATORS, x).crops if one.index == crop]
    assert {*label_set.split(label)} <= {"bent", "dirt", "rust"}
    assert label


def test_rows_are_compared_as_the_projects_classifier_compares_them():
    x, _, votes = crowd()
    classifier = MultiLabelClassifier().adapt(x)
    assert find_set_consensus(votes, ANNOTATORS, x, classifier=classifier) == find_set_consensus(
        votes, ANNOTATORS, x
    )
    far = MultiLabelClassifier().adapt(x + 50)
    assert find_set_consensus(votes, ANNOTATORS, x, classifier=far) != find_set_consensus(
        votes, ANNOTATORS, x
    )


@pytest.mark.parametrize(
    "votes",
    [
        [["crack + dirt", None, "rust"], [None, "rust", None]],
        [["crack", "crack", "crack"], ["crack", None, "crack"]],
    ],
)
def test_with_nothing_to_weigh_labels_stay(votes):
    found = find_set_consensus(votes, ["ann", "bob"], np.eye(3, dtype=np.float32))
    assert [crop.label for crop in found.crops] == [given_to(votes, crop)[0] for crop in range(3)]
    assert all(math.isnan(crop.quality) for crop in found.crops)
    assert (found.quality, found.second_labels) == ({}, [])


def test_few_labels_and_a_class_that_one_person_alone_has_given_are_weighed_too():
    votes = [["crack", "crack + dirt", "crack", None], ["crack", "crack", None, "crack"]]
    found = find_set_consensus(votes, ["ann", "bob"], np.eye(4, dtype=np.float32))
    assert [crop.label for crop in found.crops][::2] == ["crack", "crack"]
    assert found.second_labels[0] == 1
    assert found.quality.keys() == {"ann", "bob"}


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="3 annotators and a column for each of 2"):
        find_set_consensus([["a", "b"]], ANNOTATORS, np.eye(2))
