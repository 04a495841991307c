"""The contract tests of a query strategy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from everylabel.model.query.base import Query, QueryStrategy

SIZES = (1, 2, 4, 5, 6, 40, 10_000)


def make_query(
    n: int = 60,
    *,
    n_classes: int = 3,
    labeled: int = 12,
    cold: bool = False,
    seed: int = 0,
    features: NDArray[Any] | None = None,
    candidates: NDArray[Any] | None = None,
) -> Query:
    """Make a pool of blobs, some rows labelled, the rest candidates."""
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


def check_batch(query: Query, batch_size: int, chosen: list[int]) -> None:
    """Check that a batch has the size asked for, and holds distinct candidates alone."""
    assert all(type(index) is int for index in chosen)
    assert len(chosen) == len(set(chosen)) == min(batch_size, len(query.candidates))
    assert set(chosen) <= set(query.candidates.tolist())


@pytest.mark.parametrize("cold", [True, False], ids=["without a model", "with a model"])
class QueryStrategyContract:
    """Tests of every promise of a query strategy: subclass it as `Test…` with a fixture `strategy`."""

    @pytest.mark.parametrize("n", SIZES)
    def test_chooses_exactly_what_was_asked_from_the_candidates(
        self, strategy: QueryStrategy, n: int, cold: bool
    ) -> None:
        query = make_query(n, cold=cold)
        check_batch(query, 5, strategy.select(query, 5))

    @pytest.mark.parametrize("batch_size", [0, 1, 3, 50, 500])
    def test_any_batch_size(self, strategy: QueryStrategy, batch_size: int, cold: bool) -> None:
        query = make_query(50, cold=cold)
        check_batch(query, batch_size, strategy.select(query, batch_size))

    def test_an_empty_pool_gives_an_empty_batch(self, strategy: QueryStrategy, cold: bool) -> None:
        query = make_query(20, cold=cold, candidates=np.zeros(0, dtype=np.intp))
        assert strategy.select(query, 5) == []

    def test_a_negative_batch_size_is_refused(self, strategy: QueryStrategy, cold: bool) -> None:
        with pytest.raises(ValueError, match="batch_size"):
            strategy.select(make_query(cold=cold), -1)

    def test_the_same_query_and_seed_give_the_same_batch(self, strategy: QueryStrategy, cold: bool) -> None:
        assert strategy.select(make_query(cold=cold), 5) == strategy.select(make_query(cold=cold), 5)
        assert strategy.select(make_query(3000, cold=cold), 5) == strategy.select(
            make_query(3000, cold=cold), 5
        )

    def test_a_pool_of_duplicates(self, strategy: QueryStrategy, cold: bool) -> None:
        query = make_query(cold=cold, features=np.ones((72, 8), dtype=np.float32))
        check_batch(query, 5, strategy.select(query, 5))

    def test_a_pool_of_two_different_crops_repeated(self, strategy: QueryStrategy, cold: bool) -> None:
        features = np.eye(2, 8, dtype=np.float32)[np.arange(72) % 2]
        query = make_query(cold=cold, features=features)
        check_batch(query, 5, strategy.select(query, 5))

    def test_rows_that_are_zero(self, strategy: QueryStrategy, cold: bool) -> None:
        query = make_query(cold=cold, features=np.zeros((72, 8), dtype=np.float32))
        check_batch(query, 5, strategy.select(query, 5))

    def test_nothing_labelled_yet(self, strategy: QueryStrategy, cold: bool) -> None:
        query = make_query(labeled=0, cold=cold)
        check_batch(query, 5, strategy.select(query, 5))

    @pytest.mark.parametrize("n_classes", [1, 2, 7])
    def test_any_number_of_classes(self, strategy: QueryStrategy, n_classes: int, cold: bool) -> None:
        query = make_query(n_classes=n_classes, cold=cold)
        check_batch(query, 5, strategy.select(query, 5))

    def test_any_labels_known_and_all_of_one_class(self, strategy: QueryStrategy, cold: bool) -> None:
        plain = make_query(80, labeled=40, cold=cold)
        query = replace(plain, labels=np.zeros(40, dtype=np.intp))
        check_batch(query, 5, strategy.select(query, 5))

    def test_a_model_that_is_certain_of_everything(self, strategy: QueryStrategy, cold: bool) -> None:
        plain = make_query(80, cold=cold)
        certain = np.eye(3, dtype=np.float32)[np.arange(92) % 3]
        query = replace(plain, probabilities=None if cold else certain)
        check_batch(query, 5, strategy.select(query, 5))

    def test_no_number_on_the_way_is_invalid(self, strategy: QueryStrategy, cold: bool) -> None:
        """Rows at the centre, duplicates and tiny numbers: a NaN would win every argmax unseen."""
        features = np.concatenate([np.zeros((20, 8)), np.full((20, 8), 1e-20), np.eye(32, 8)])
        query = make_query(cold=cold, features=features.astype(np.float32))
        with np.errstate(invalid="raise", divide="raise"):
            check_batch(query, 5, strategy.select(query, 5))

    def test_the_order_of_the_candidates_does_not_matter_to_which_exist(
        self, strategy: QueryStrategy, cold: bool
    ) -> None:
        plain = make_query(cold=cold)
        query = replace(plain, candidates=plain.candidates[::-1].copy())
        check_batch(query, 7, strategy.select(query, 7))

    def test_a_float16_pool_on_disk_is_enough(
        self, strategy: QueryStrategy, cold: bool, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "pool.npy", np.asarray(make_query().features, dtype=np.float16))
        query = make_query(cold=cold, features=np.load(tmp_path / "pool.npy", mmap_mode="r"))
        check_batch(query, 5, strategy.select(query, 5))

    def test_features_of_a_large_pool_are_never_read_whole(self, strategy: QueryStrategy, cold: bool) -> None:
        class Counting:
            def __init__(self, rows: Any) -> None:
                self.rows, self.shape, self.most = rows, rows.shape, 0

            def __len__(self) -> int:
                return len(self.rows)

            def __getitem__(self, key: Any) -> Any:
                found = self.rows[key]
                self.most = max(self.most, len(found))
                return found

        plain = make_query(10_000, cold=cold)
        counting = Counting(plain.features)
        query = Query(counting, plain.candidates, plain.labeled, plain.labels, plain.probabilities, 0)
        check_batch(query, 5, strategy.select(query, 5))
        assert counting.most <= 2500
