import numpy as np
import torch

from everylabel.model.query import HybridQueryStrategy


class TwoColumns(torch.nn.Module):
    """Reads its answer off the crop: the first number is the probability, the rest the embedding."""

    def predict_proba(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 1:]


def test_it_takes_uncertain_crops_from_different_clusters():
    rng = np.random.default_rng(0)
    p = np.concatenate([np.full(15, 0.5), np.full(200, 0.99)])
    group = np.concatenate([np.repeat(np.arange(5), 3), rng.integers(5, size=200)])
    crops = np.column_stack([p, np.eye(5)[group] * 10 + rng.standard_normal((215, 5)) * 0.01])
    chosen = HybridQueryStrategy(beta=3).select_batch(TwoColumns(), crops, batch_size=5, device="cpu")
    assert max(chosen) < 15
    assert sorted(group[chosen]) == [0, 1, 2, 3, 4]


def test_of_a_cluster_it_takes_the_crop_nearest_the_centroid():
    embedding = np.array([[0.0], [1.0], [2.0], [100.0], [101.0], [102.0]])
    crops = np.column_stack([np.full(6, 0.5), embedding])
    assert sorted(HybridQueryStrategy().select_batch(TwoColumns(), crops, batch_size=2)) == [1, 4]


def test_an_empty_cluster_does_not_cost_a_pick():
    """All of the shortlist looks the same, so k-means cannot fill five clusters."""
    crops = np.column_stack([np.full(40, 0.5), np.zeros((40, 3))])
    chosen = HybridQueryStrategy().select_batch(TwoColumns(), crops, batch_size=5)
    assert len(set(chosen)) == 5
    two = np.column_stack([np.full(40, 0.5), np.arange(40)[:, None] % 2])
    assert len(set(HybridQueryStrategy().select_batch(TwoColumns(), two, batch_size=5))) == 5


def test_ties_are_not_broken_by_the_order_of_the_pool():
    crops = np.column_stack([np.full(500, 0.5), np.random.default_rng(0).standard_normal((500, 2))])
    assert max(HybridQueryStrategy().select_batch(TwoColumns(), crops, batch_size=5)) > 50
