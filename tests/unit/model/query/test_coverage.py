"""Greedy coverage looks at few candidates a pick, and picks what looking at all of them would."""

from __future__ import annotations

import numpy as np
import pytest

from everylabel.model.query import Query, create, kernel
from everylabel.model.query.base import most_uncertain
from everylabel.model.query.kernel import Coverage, pick_by_coverage


def plain(values, covered, size, weight, own):
    """Every candidate looked at for every pick."""
    free, chosen = np.ones(len(values), dtype=bool), []
    for _ in range(size):
        gain = (np.maximum(values - covered, 0) * weight).sum(axis=1) * own
        best = int(np.argmax(np.where(free, gain, -1.0)))
        free[best] = False
        covered = np.maximum(covered, values[best])
        chosen.append(best)
    return chosen


def lazy(values, covered, size, weight, own):
    coverage, free, chosen = Coverage(values, covered, weight, own), np.ones(len(values), dtype=bool), []
    for _ in range(size):
        best = coverage.best(free)
        free[best] = False
        coverage.take(best)
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("seed", range(8))
def test_the_picks_are_those_of_looking_at_all(seed):
    rng = np.random.default_rng(seed)
    values = (rng.random((400, 90)) ** 6).astype(np.float32)
    if seed % 2:  # twins, and crops that are level to the last bit
        values = np.concatenate([values[:100]] * 4).round(1)
    covered = np.float32(0.3 * rng.random(90))
    weight, own = rng.random(90).astype(np.float32), rng.random(400).astype(np.float32).round(1)
    assert lazy(values, covered, 300, weight, own) == plain(values, covered, 300, weight, own)
    ones = np.ones(90, dtype=np.float32), np.ones(400, dtype=np.float32)
    assert pick_by_coverage(values, covered, 400) == plain(values, covered, 400, *ones)


def test_nothing_to_cover_is_taken_in_order():
    values = np.zeros((30, 5), dtype=np.float32)
    assert pick_by_coverage(values, np.ones(5, dtype=np.float32), 30) == list(range(30))


def test_a_large_batch_looks_at_few_candidates_a_pick(monkeypatch):
    looked_at = []
    gain = Coverage._gain

    def counting(self, rows):
        found = gain(self, rows)
        looked_at.append(len(found))
        return found

    monkeypatch.setattr(kernel.Coverage, "_gain", counting)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((3000, 16)).astype(np.float32)
    query = Query(
        features, np.arange(3000), np.zeros(0, int), np.zeros(0, int), rng.dirichlet([1, 1], 3000), seed=0
    )
    assert len(create("auto").select(query, 200)) == 200
    assert sum(looked_at) < 0.2 * 200 * 2000


@pytest.mark.parametrize("n", [0, 1, 7, 100, 400, 500])
@pytest.mark.parametrize("decimals", [1, 8])
def test_the_most_uncertain_are_those_of_sorting_all_with_ties_drawn(n, decimals):
    uncertainty = np.random.default_rng(0).random(400).round(decimals)
    candidates = np.arange(1000, 1400)
    tie = np.random.default_rng(5).permutation(400)
    expected = candidates[np.lexsort((tie, -uncertainty))[:n]]
    assert most_uncertain(candidates, uncertainty, n, 5).tolist() == expected.tolist()
