import time

import numpy as np

from everylabel.model.pseudo_labels.agreement import agreed_labels
from everylabel.model.pseudo_labels.pool_graph import PoolGraph
from everylabel.model.vectors import unit_rows


def blobs(n: int, noise: float = 1.0, d: int = 32, n_classes: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((n_classes, d))
    codes = rng.integers(n_classes, size=n)
    return unit_rows(centres[codes] + noise * rng.standard_normal((n, d))).astype(np.float32), codes


def test_a_few_seeds_reach_their_clusters():
    x, codes = blobs(300)
    graph = PoolGraph.build(x, [], np.arange(300))
    seeds = np.zeros((300, 3), dtype=np.float32)
    for code in range(3):
        seeds[np.flatnonzero(codes == code)[0], code] = 1
    assert (graph.propagate(seeds).argmax(axis=1) == codes).mean() > 0.95


def test_smoothing_brings_a_crop_towards_its_class_and_no_nearer_to_the_others():
    x, codes = blobs(300, noise=2.0)
    smooth = PoolGraph.build(x, [], np.arange(300)).smoothed(np.arange(300))
    same = codes[:, None] == codes
    raw_gap = (x @ x.T)[same].mean() - (x @ x.T)[~same].mean()
    assert (smooth @ smooth.T)[same].mean() - (smooth @ smooth.T)[~same].mean() > 1.5 * raw_gap


def test_a_large_pool_is_sampled_and_what_must_be_kept_is():
    x, _ = blobs(5000)
    graph = PoolGraph.build(x, [7, 4999], np.arange(5000), at_most=400)
    assert len(graph.rows) == 400
    assert graph.rows[graph.positions([7, 4999])].tolist() == [7, 4999]
    assert PoolGraph.build(x, range(500), np.arange(5000), at_most=400) is None


def test_two_thousand_crops_are_joined_in_well_under_a_second():
    x, _ = blobs(20_000, d=1280)
    start = time.process_time()
    PoolGraph.build(x, range(100), np.arange(20_000))
    assert time.process_time() - start < 2.0  # 0.1 s on an idle core


def test_copies_and_rows_of_zeros_stay_finite():
    x = np.zeros((60, 8), dtype=np.float32)
    x[:30, 0] = 1
    graph = PoolGraph.build(x, [], np.arange(60))
    assert np.isfinite(graph.propagate(np.ones((60, 2), dtype=np.float32))).all()
    assert np.isfinite(graph.smoothed(np.arange(60))).all()


class TestAgreement:
    def agreed(self, labels, opinion, x, n_labels=30, n_classes=3):
        graph = PoolGraph.build(x, [], np.arange(len(x)))
        return agreed_labels(
            graph, np.arange(n_labels), labels, np.arange(n_labels, len(x)), opinion, n_classes
        )

    def test_only_crops_that_both_call_the_same_are_taken(self):
        x, codes = blobs(400, noise=2.0)
        opinion = codes.copy()
        opinion[100:150] = (codes[100:150] + 1) % 3  # the head is wrong here, the neighbours are not
        found = self.agreed(codes[:30], opinion, x)
        assert len(set(found.indices) & set(range(100, 150))) < 10
        assert (codes[found.indices] == found.codes).mean() > 0.95
        assert len(found.indices) > 200

    def test_a_rare_class_weighs_as_much_as_a_common_one(self):
        x, codes = blobs(1000, noise=1.5, n_classes=2)
        kept = np.sort(np.concatenate([np.flatnonzero(codes == 0), np.flatnonzero(codes == 1)[:60]]))
        x, codes = x[kept], codes[kept]
        order = np.argsort(codes, kind="stable")
        first = np.concatenate([order[:15], order[-15:]])
        rest = np.setdiff1d(np.arange(len(x)), first)
        x, codes = x[np.concatenate([first, rest])], codes[np.concatenate([first, rest])]
        found = self.agreed(codes[:30], codes, x, n_classes=2)
        totals = [found.weights[found.codes == code].sum() for code in (0, 1)]
        assert min(totals) > 0.6 * max(totals)

    def test_refused_where_the_neighbours_know_nothing_of_the_question(self):
        """Labels at random: guesses can only make the loss on held-out labels worse or leave it."""
        accepted = 0
        for seed in range(10):
            x, _ = blobs(300, seed=seed)
            labels = np.random.default_rng(seed).integers(2, size=40)
            opinion = np.random.default_rng(seed + 50).integers(2, size=300)
            accepted += self.agreed(labels, opinion, x, n_labels=40, n_classes=2).accepted
        assert accepted <= 6

    def test_accepted_where_classes_are_clusters(self):
        accepted = 0
        for seed in range(10):
            x, codes = blobs(400, noise=2.0, seed=seed)
            accepted += self.agreed(codes[:30], codes, x).accepted
        assert accepted >= 8
