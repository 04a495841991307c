"""Crops unlike anything in the pool are told, and of the pool's own kind at most one in twenty is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from everylabel.model import encoders
from everylabel.model.exported.novelty import FEWEST, FLAGGED, Novelty


def images() -> tuple[list[Image.Image], list[Image.Image]]:
    """Return 160 digits, and 60 pictures of another kind: smooth hills."""
    digits = [
        Image.fromarray((pixels * 15).astype(np.uint8)).resize((48, 48))
        for pixels in load_digits().images[:160]
    ]
    rng = np.random.default_rng(0)
    hills = [
        Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)).resize(
            (48, 48), Image.Resampling.BICUBIC
        )
        for _ in range(60)
    ]
    return [image.convert("RGB") for image in digits], [image.convert("RGB") for image in hills]


@pytest.mark.parametrize("name", ["efficientnet-lite0", "direct-cnn"])
def test_another_kind_of_picture_is_flagged_and_ones_own_are_not(name: str) -> None:
    encoder = encoders.create(name, device="cpu")
    own, others = (encoder.encode(np.stack([encoder.prepare(one) for one in kind])) for kind in images())
    novelty = Novelty.measured(own[:100], by_direction=name == "efficientnet-lite0")
    assert novelty is not None
    scores = np.concatenate([novelty.score(own[100:]), novelty.score(others)])
    assert roc_auc_score(np.arange(120) >= 60, scores) > 0.95
    assert (scores[:60] > 1).mean() <= FLAGGED
    assert (scores[60:] > 1).mean() > 0.5


def rows(seed: int, n: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, 24), dtype=np.float32) + 2


def test_the_threshold_holds_for_new_crops_nineteen_times_in_twenty() -> None:
    shares = []
    for seed in range(40):
        novelty = Novelty.measured(rows(seed, 300), by_direction=True, seed=seed)
        assert novelty is not None
        shares.append((novelty.score(rows(1000 + seed, 2000)) > 1).mean())
    assert np.mean(np.asarray(shares) <= FLAGGED) >= 0.9
    assert np.mean(shares) > 0.005, "a threshold that flags nothing tells nothing"


def test_a_tiny_pool_says_nothing() -> None:
    assert Novelty.measured(rows(0, FEWEST - 1), by_direction=True) is None
    assert Novelty.measured(rows(0, FEWEST), by_direction=True) is not None


def test_a_pool_of_one_crop_again_and_again_flags_any_other() -> None:
    same = np.tile(rows(0, 1), (50, 1))
    novelty = Novelty.measured(same, by_direction=True)
    assert novelty is not None
    assert (novelty.score(same) <= 1).all()
    assert (novelty.score(rows(1, 10)) > 1).all()


def test_references_are_few_however_large_the_pool() -> None:
    novelty = Novelty.measured(rows(0, 10_000), by_direction=True)
    assert novelty is not None
    assert novelty.references.shape == (2000, 24)
    assert novelty.n_measured == 2000
