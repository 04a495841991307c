"""What every query strategy promises. A strategy in the registry is held to all of it without a line of its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.query import Query, create, names

SIZES = (1, 2, 4, 5, 6, 40, 10_000)


def a_query(
    n: int = 60,
    *,
    n_classes: int = 3,
    labeled: int = 12,
    cold: bool = False,
    seed: int = 0,
    features: np.ndarray | None = None,
    candidates: np.ndarray | None = None,
) -> Query:
    """A pool of blobs, some rows labelled, the rest candidates."""
    rng = np.random.default_rng(1)
    if features is None:
        blob = rng.integers(n_classes, size=n + labeled)
        features = (rng.standard_normal((n + labeled, 8)) * 0.3 + blob[:, None]).astype(np.float32)
    rows = rng.permutation(len(features))
    return Query(
        features=features,
        candidates=np.sort(rows[labeled:]) if candidates is None else candidates,
        labeled=rows[:labeled],
        labels=rng.integers(n_classes, size=labeled),
        probabilities=None if cold else rng.dirichlet(np.ones(n_classes), len(features)).astype(np.float32),
        seed=seed,
    )


def check(query: Query, batch_size: int, chosen: list[int]) -> None:
    assert all(type(index) is int for index in chosen)
    assert len(chosen) == len(set(chosen)) == min(batch_size, len(query.candidates))
    assert set(chosen) <= set(query.candidates.tolist())


@pytest.fixture(params=names())
def strategy(request):
    return create(request.param)


@pytest.mark.parametrize("cold", [True, False], ids=["without a model", "with a model"])
class TestEveryStrategy:
    @pytest.mark.parametrize("n", SIZES)
    def test_chooses_exactly_what_was_asked_from_the_candidates(self, strategy, n, cold):
        query = a_query(n, cold=cold)
        check(query, 5, strategy.select(query, 5))

    @pytest.mark.parametrize("batch_size", [0, 1, 3, 50, 500])
    def test_any_batch_size(self, strategy, batch_size, cold):
        query = a_query(50, cold=cold)
        check(query, batch_size, strategy.select(query, batch_size))

    def test_an_empty_pool_gives_an_empty_batch(self, strategy, cold):
        query = a_query(20, cold=cold, candidates=np.zeros(0, dtype=np.intp))
        assert strategy.select(query, 5) == []

    def test_a_negative_batch_size_is_refused(self, strategy, cold):
        with pytest.raises(ValueError, match="batch_size"):
            strategy.select(a_query(cold=cold), -1)

    def test_the_same_query_and_seed_give_the_same_batch(self, strategy, cold):
        assert strategy.select(a_query(cold=cold), 5) == strategy.select(a_query(cold=cold), 5)
        assert strategy.select(a_query(3000, cold=cold), 5) == strategy.select(a_query(3000, cold=cold), 5)

    def test_a_pool_of_duplicates(self, strategy, cold):
        query = a_query(cold=cold, features=np.ones((72, 8), dtype=np.float32))
        check(query, 5, strategy.select(query, 5))

    def test_a_pool_of_two_different_crops_repeated(self, strategy, cold):
        features = np.eye(2, 8, dtype=np.float32)[np.arange(72) % 2]
        query = a_query(cold=cold, features=features)
        check(query, 5, strategy.select(query, 5))

    def test_rows_that_are_zero(self, strategy, cold):
        query = a_query(cold=cold, features=np.zeros((72, 8), dtype=np.float32))
        check(query, 5, strategy.select(query, 5))

    def test_nothing_labelled_yet(self, strategy, cold):
        query = a_query(labeled=0, cold=cold)
        check(query, 5, strategy.select(query, 5))

    @pytest.mark.parametrize("n_classes", [1, 2, 7])
    def test_any_number_of_classes(self, strategy, n_classes, cold):
        query = a_query(n_classes=n_classes, cold=cold)
        check(query, 5, strategy.select(query, 5))

    def test_any_labels_known_and_all_of_one_class(self, strategy, cold):
        plain = a_query(80, labeled=40, cold=cold)
        query = replace(plain, labels=np.zeros(40, dtype=np.intp))
        check(query, 5, strategy.select(query, 5))

    def test_a_model_that_is_certain_of_everything(self, strategy, cold):
        plain = a_query(80, cold=cold)
        certain = np.eye(3, dtype=np.float32)[np.arange(92) % 3]
        query = replace(plain, probabilities=None if cold else certain)
        check(query, 5, strategy.select(query, 5))

    def test_no_number_on_the_way_is_invalid(self, strategy, cold):
        """Rows at the centre, duplicates and tiny numbers: a NaN would win every argmax unseen."""
        features = np.concatenate([np.zeros((20, 8)), np.full((20, 8), 1e-20), np.eye(32, 8)])
        query = a_query(cold=cold, features=features.astype(np.float32))
        with np.errstate(invalid="raise", divide="raise"):
            check(query, 5, strategy.select(query, 5))

    def test_the_order_of_the_candidates_does_not_matter_to_which_exist(self, strategy, cold):
        plain = a_query(cold=cold)
        query = replace(plain, candidates=plain.candidates[::-1].copy())
        check(query, 7, strategy.select(query, 7))

    def test_a_float16_pool_on_disk_is_enough(self, strategy, cold, tmp_path):
        np.save(tmp_path / "pool.npy", a_query().features.astype(np.float16))
        query = a_query(cold=cold, features=np.load(tmp_path / "pool.npy", mmap_mode="r"))
        check(query, 5, strategy.select(query, 5))

    def test_features_of_a_large_pool_are_never_read_whole(self, strategy, cold):
        class Counting:
            def __init__(self, rows: np.ndarray) -> None:
                self.rows, self.shape, self.most = rows, rows.shape, 0

            def __len__(self) -> int:
                return len(self.rows)

            def __getitem__(self, key):
                found = self.rows[key]
                self.most = max(self.most, len(found))
                return found

        plain = a_query(10_000, cold=cold)
        counting = Counting(plain.features)
        query = Query(counting, plain.candidates, plain.labeled, plain.labels, plain.probabilities, 0)
        check(query, 5, strategy.select(query, 5))
        assert counting.most <= 2500


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
