import numpy as np
import pytest
import torch

from everylabel.model.query import HybridQueryStrategy
from everylabel.model.query.uncertainty import compute_uncertainty_scores, margin_uncertainty
from everylabel.model.torch_module import embed, predict_proba

CROPS = np.random.default_rng(0).standard_normal((600, 3, 4, 4)).astype(np.float32)


class Small(torch.nn.Module):
    """Remembers the largest batch it saw and whether it was training."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = torch.nn.Linear(48, outputs)
        self.drop = torch.nn.Dropout(0.5)
        self.most = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        self.most = max(self.most, len(x))
        return self.head(self.drop(x.flatten(1)))


class Squeezing(Small):
    """The usual sketch: one probability a crop, squeezed, so that one crop is a number without a dimension."""

    def __init__(self) -> None:
        super().__init__(1)

    def predict_proba(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self(x)).squeeze()

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).squeeze()


@pytest.mark.parametrize(("outputs", "columns"), [(1, 2), (2, 2), (5, 5)])
def test_logits_become_probabilities(outputs, columns):
    probabilities = predict_proba(Small(outputs), CROPS)
    assert probabilities.shape == (600, columns)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_one_logit_is_the_second_class():
    module = Small(1)
    with torch.no_grad():
        expected = torch.sigmoid(module.eval()(torch.from_numpy(CROPS))).numpy()[:, 0]
    np.testing.assert_allclose(predict_proba(module, CROPS)[:, 1], expected, atol=1e-6)


def test_one_crop_is_one_row_even_from_a_module_that_squeezes():
    assert predict_proba(Squeezing(), CROPS[:1]).shape == (1, 2)
    assert embed(Squeezing(), CROPS[:1]).shape == (1, 48)
    assert compute_uncertainty_scores(Squeezing(), CROPS[:1], "cpu").shape == (1,)
    assert HybridQueryStrategy().select_batch(Squeezing(), CROPS[:1]) == [0]
    # 257 crops leave a last batch of one.
    assert predict_proba(Squeezing(), CROPS[:257]).shape == (257, 2)


def test_the_whole_pool_is_never_in_one_tensor():
    module = Small()
    predict_proba(module, CROPS, batch_size=64)
    assert module.most == 64
    module.most = 0
    HybridQueryStrategy().select_batch(module, CROPS)
    assert 0 < module.most <= 256


def test_a_pool_on_disk_is_read_in_batches(tmp_path):
    np.save(tmp_path / "crops.npy", CROPS.astype(np.float16))
    crops = np.load(tmp_path / "crops.npy", mmap_mode="r")
    np.testing.assert_allclose(predict_proba(Small(), crops), predict_proba(Small(), CROPS), atol=1e-2)


def test_modes_are_put_back_one_by_one():
    module = Small().train()
    module.drop.eval()
    first, second = predict_proba(module, CROPS), predict_proba(module, CROPS)
    np.testing.assert_array_equal(first, second)
    assert module.training
    assert module.head.training
    assert not module.drop.training


def test_modes_are_put_back_when_the_module_fails():
    module = Small().train()
    with pytest.raises(RuntimeError):
        predict_proba(module, np.zeros((2, 5), dtype=np.float32))
    assert module.training


def test_embeddings_prefer_features_then_encode_then_probabilities():
    class Both(Small):
        def features(self, x):
            return x.flatten(1)[:, :7]

        def encode(self, x):
            return x.flatten(1)[:, :5]

    class Maps(Small):
        def features(self, x):
            return x

    assert embed(Both(), CROPS).shape == (600, 7)
    assert embed(Squeezing(), CROPS).shape == (600, 48)
    assert embed(Small(4), CROPS).shape == (600, 4)
    np.testing.assert_allclose(embed(Maps(), CROPS), CROPS.mean(axis=(2, 3)), atol=1e-6)


def test_no_crops():
    assert predict_proba(Small(), CROPS[:0]).shape[0] == 0
    assert compute_uncertainty_scores(Small(), CROPS[:0], "cpu").shape == (0,)


def test_torch_tensors_and_lists_are_crops_too():
    expected = predict_proba(Small(), CROPS[:5])
    np.testing.assert_array_equal(predict_proba(Small(), torch.from_numpy(CROPS[:5])), expected)
    np.testing.assert_array_equal(predict_proba(Small(), list(CROPS[:5])), expected)


def test_a_module_that_misbehaves_is_named():
    class Logits(Small):
        def predict_proba(self, x):
            return self(x) * 100

    class Broken(Small):
        def forward(self, x):
            return super().forward(x) * float("nan")

    class Short(Small):
        def forward(self, x):
            return super().forward(x)[:1]

    with pytest.raises(ValueError, match=r"Logits\.predict_proba returned values outside"):
        predict_proba(Logits(), CROPS)
    with pytest.raises(ValueError, match="Broken returned values that are not finite"):
        predict_proba(Broken(), CROPS)
    with pytest.raises(ValueError, match="one row a crop"):
        predict_proba(Short(), CROPS)


class TestUncertainty:
    def test_binary_is_one_at_one_half_and_zero_when_certain(self):
        p = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
        scores = margin_uncertainty(np.stack([1 - p, p], axis=1))
        np.testing.assert_allclose(scores, [0, 0.5, 1, 0.5, 0])

    def test_multi_class_is_one_minus_the_margin(self):
        np.testing.assert_allclose(margin_uncertainty(np.array([[0.1, 0.6, 0.3]])), [0.7])

    def test_one_class_is_not_uncertain(self):
        assert margin_uncertainty(np.ones((3, 1))).tolist() == [0, 0, 0]

    def test_scores_of_a_module(self):
        scores = compute_uncertainty_scores(Small(), CROPS, "cpu")
        assert scores.shape == (600,)
        assert ((scores >= 0) & (scores <= 1)).all()
        probabilities = np.sort(predict_proba(Small(), CROPS), axis=1)
        np.testing.assert_allclose(scores, 1 - (probabilities[:, -1] - probabilities[:, -2]), atol=1e-6)
