import numpy as np
import pytest
import torch

from everylabel.model.pseudo_labels.confident_crops import ConfidentCrops, PseudoLabel, highest_first
from everylabel.model.pseudo_labels.threshold import PseudoLabeler, expand_with_pseudo_labels


class ReadsItsAnswer(torch.nn.Module):
    def predict_proba(self, x: torch.Tensor) -> torch.Tensor:
        return x


THREE = np.array([[0.95, 0.03, 0.02], [0.4, 0.35, 0.25], [0.05, 0.91, 0.04], [0.15, 0.0, 0.85]])


def test_confident_crops_are_marked_and_every_crop_has_a_confidence():
    mask, confidences = PseudoLabeler().generate_pseudo_labels(ReadsItsAnswer(), THREE, "cpu")
    assert mask.tolist() == [True, False, True, False]
    np.testing.assert_allclose(confidences, [0.95, 0.4, 0.91, 0.85], atol=1e-6)


def test_labels_say_which_class_and_in_which_order_to_use_them():
    found = PseudoLabeler(0.8).generate_pseudo_labels(ReadsItsAnswer(), THREE)
    assert found.labels[found.mask].tolist() == [0, 1, 2]
    assert (found.mask & (found.labels == 1)).tolist() == [False, False, True, False]
    assert highest_first(found.confidences, np.flatnonzero(found.mask)).tolist() == [0, 2, 3]


def test_equally_confident_crops_keep_their_order_however_many_there_are():
    rng = np.random.default_rng(0)
    top = rng.choice(np.float32([0.5, 0.9, 0.95, 1.0]), 5000)
    found = PseudoLabeler(0.8).select(np.stack([top, 1 - top], axis=1))
    confident = np.flatnonzero(top >= 0.8)
    expected = confident[np.argsort(-top[confident], kind="stable")]
    assert highest_first(found.confidences, np.flatnonzero(found.mask)).tolist() == expected.tolist()


def test_confident_crops_of_a_round_read_like_a_tuple_of_pseudo_labels():
    confident = ConfidentCrops(
        np.array([3, 5, 9]), np.array([0, 1, 0]), np.float32([0.75, 1.0, 0.75]), ("cat", "dog")
    )
    listed = [PseudoLabel(5, "dog", 1.0), PseudoLabel(3, "cat", 0.75), PseudoLabel(9, "cat", 0.75)]
    assert list(confident) == listed
    assert confident == tuple(listed)
    assert confident != tuple(listed[:2])
    assert confident[-1] == listed[-1]
    assert list(confident[:2]) == listed[:2]
    assert list(confident[::-1]) == listed[::-1]
    assert listed[1] in confident
    assert confident.labels == ("dog", "cat", "cat")
    assert not ConfidentCrops(np.zeros(0, int), np.zeros(0, int), np.zeros(0, np.float32), ())
    with pytest.raises(IndexError):
        confident[3]


def test_binary_modules_give_confident_negatives_too():
    p = np.array([[0.02], [0.5], [0.97]])
    found = PseudoLabeler().generate_pseudo_labels(ReadsItsAnswer(), p)
    assert found.mask.tolist() == [True, False, True]
    assert found.labels[found.mask].tolist() == [0, 1]


def test_one_crop_and_none():
    assert PseudoLabeler().generate_pseudo_labels(ReadsItsAnswer(), THREE[:1]).mask.tolist() == [True]
    assert PseudoLabeler().generate_pseudo_labels(ReadsItsAnswer(), THREE[:0]).mask.tolist() == []


def test_the_threshold_falls_a_step_a_round_and_stops_at_the_minimum():
    labeler = PseudoLabeler(initial_threshold=0.9, min_threshold=0.85, decay_per_round=0.02)
    seen = [labeler.threshold]
    for _ in range(4):
        labeler.step()
        seen.append(labeler.threshold)
    assert seen == [0.9, 0.88, 0.86, 0.85, 0.85]


def test_reset_goes_back_to_the_initial_threshold_also_before_any_step():
    labeler = PseudoLabeler(0.95)
    labeler.reset()
    assert labeler.threshold == 0.95
    labeler.step()
    labeler.step()
    labeler.reset()
    assert labeler.threshold == 0.95


@pytest.mark.parametrize("settings", [(0.7, 0.9, 0.02), (1.2, 0.7, 0.02), (0.9, 0.0, 0.02), (0.9, 0.7, -0.1)])
def test_impossible_thresholds_are_refused(settings):
    with pytest.raises(ValueError, match=r"threshold|decay"):
        PseudoLabeler(*settings)


class TestExpanding:
    def test_at_most_half_as_many_pseudo_as_real_labels_and_the_first_ones(self):
        crops, labels = expand_with_pseudo_labels(
            np.zeros((4, 2)), ["a", "b", "a", "b"], np.ones((9, 2)), ["c"] * 9
        )
        assert crops.shape == (6, 2)
        assert labels.tolist() == ["a", "b", "a", "b", "c", "c"]
        assert crops[:4].sum() == 0

    def test_real_labels_keep_their_order(self):
        """In a set they would not: training order, and so the model, would change from run to run."""
        names = [f"name {i}" for i in range(50)]
        _, labels = expand_with_pseudo_labels(np.zeros((50, 1)), names, np.zeros((5, 1)), ["x"] * 5)
        assert labels[:50].tolist() == names

    def test_torch_crops_stay_torch(self):
        crops, labels = expand_with_pseudo_labels(torch.zeros(4, 3), [0, 1, 0, 1], torch.ones(1, 3), [1])
        assert isinstance(crops, torch.Tensor)
        assert crops.shape == (5, 3)
        assert labels.tolist() == [0, 1, 0, 1, 1]

    def test_nothing_to_add(self):
        crops, labels = expand_with_pseudo_labels(np.zeros((4, 2)), [0, 1, 0, 1], np.zeros((0, 2)), [])
        assert (len(crops), labels.tolist()) == (4, [0, 1, 0, 1])

    def test_crops_without_labels_are_refused(self):
        with pytest.raises(ValueError, match="9 pseudo-labelled crops with 8 labels"):
            expand_with_pseudo_labels(np.zeros((4, 2)), [0] * 4, np.zeros((9, 2)), [0] * 8)
