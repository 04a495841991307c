"""What every query strategy promises. A strategy in the registry is held to all of it without a line of its own."""

import numpy as np
import pytest
import torch

from everylabel.model.query import Query, create, names
from everylabel.model.testing import QueryStrategyContract


@pytest.fixture(params=names())
def strategy(request):
    return create(request.param)


class TestEveryStrategy(QueryStrategyContract):
    pass


class Module(torch.nn.Module):
    """Scores crops of 6 numbers; `outputs` of 1 is one logit, 2 is two, more is more classes."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(6, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)


class WithFeatures(Module):
    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


class WithEncode(Module):
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :3]


class WithPredictProba(Module):
    def predict_proba(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.head(x)).squeeze(-1) if self.head.out_features == 1 else self(x).softmax(1)


@pytest.mark.parametrize("kind", [Module, WithFeatures, WithEncode, WithPredictProba])
@pytest.mark.parametrize("outputs", [1, 2, 4])
@pytest.mark.parametrize("n", [0, 1, 3, 5, 64])
def test_select_batch_reads_any_torch_module(strategy, kind, outputs, n):
    torch.manual_seed(0)
    crops = np.random.default_rng(0).standard_normal((n, 6)).astype(np.float32)
    chosen = strategy.select_batch(kind(outputs), crops, batch_size=5, device="cpu")
    assert len(chosen) == len(set(chosen)) == min(5, n)
    assert all(0 <= index < n for index in chosen)


@pytest.mark.parametrize("name", [name for name in names() if name != "random"])
def test_the_first_batch_is_conditioned_on_what_is_labelled(name):
    """Five tight groups, four of them labelled once: the next crop comes from the fifth."""
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(5), 20)
    features = (np.eye(5, 8)[group] + rng.standard_normal((100, 8)) * 0.02).astype(np.float32)
    labeled = np.array([0, 20, 40, 60])
    candidates = np.setdiff1d(np.arange(100), labeled)
    query = Query(features, candidates, labeled, np.zeros(4, dtype=int), None, seed=0)
    assert group[create(name).select(query, 1)[0]] == 4


def test_an_unknown_name_is_answered_with_those_that_exist():
    with pytest.raises(ValueError, match=r"unknown query strategy 'bogus'.*hybrid"):
        create("bogus")
