"""What query strategies and encoders promise, as tests: for ours, and for a plugin's author.

A plugin's test file is as short as this (with `pytest` installed):

    from model.testing import QueryStrategyContract

    class TestFarthest(QueryStrategyContract):
        @pytest.fixture
        def strategy(self):
            return FarthestQueryStrategy()

A test fails where a promise of `QueryStrategy.select` or of `Encoder` is not kept.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from model.encoders import Encoder
from model.query import Query, QueryStrategy

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
    """What every query strategy promises: subclass it as `Test…` with a fixture `strategy`."""

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


def _circle(size: tuple[int, int] = (96, 96), mode: str = "RGB", seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(v) for v in rng.integers(0, 80, 3)))
    x, y = rng.integers(10, 40, 2)
    ImageDraw.Draw(image).ellipse((x, y, x + 40, y + 40), fill=(220, 200, 30))
    return image.convert(mode)


def _stripes(seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    rows = ((np.arange(96) + rng.integers(0, 8)) // 4 % 2 * 200).astype(np.uint8)
    return Image.fromarray(np.tile(rows[:, None], (1, 96))).convert("RGB")


def _sixteen_bit() -> Image.Image:
    return Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16))


def _rotated() -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = io.BytesIO()
    _circle((80, 40)).save(stored, "JPEG", exif=exif)
    return Image.open(stored)


class EncoderContract:
    """What every encoder of images promises: subclass it as `Test…` with a fixture `encoder`."""

    @pytest.fixture
    def crops(self, encoder: Encoder) -> NDArray[Any]:
        images = [_circle(seed=seed) for seed in range(20)] + [_stripes(seed) for seed in range(20)]
        return np.stack([encoder.prepare(image) for image in images])

    def test_rows_are_as_declared(self, encoder: Encoder, crops: NDArray[Any]) -> None:
        rows = encoder.encode(crops)
        assert rows.shape == (len(crops), encoder.dim)
        assert rows.dtype == encoder.dtype
        assert np.isfinite(rows).all()
        assert encoder.name in encoder.signature

    def test_the_same_crop_gives_the_same_row_whatever_stands_beside_it(
        self, encoder: Encoder, crops: NDArray[Any]
    ) -> None:
        together = encoder.encode(crops).astype(np.float32)
        np.testing.assert_array_equal(encoder.encode(crops), encoder.encode(crops))
        scale = np.abs(together).max()
        for index in (0, 7, len(crops) - 1):
            alone = encoder.encode(crops[index : index + 1])[0].astype(np.float32)
            assert np.abs(alone - together[index]).max() <= 2e-3 * scale

    def test_no_more_than_a_batch_reaches_the_network_at_once(
        self, encoder: Encoder, crops: NDArray[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = encoder.encode(crops)
        sizes: list[int] = []
        inner = encoder._encode_batch

        def counting(batch: NDArray[Any]) -> NDArray[Any]:
            sizes.append(len(batch))
            return inner(batch)

        monkeypatch.setattr(encoder, "_encode_batch", counting)
        monkeypatch.setattr(encoder, "batch_size", 7)
        rows = encoder.encode(crops)
        assert sizes == [7, 7, 7, 7, 7, 5]
        np.testing.assert_allclose(rows.astype(float), whole.astype(float), rtol=5e-3, atol=5e-3)

    def test_batches_as_they_come_give_the_rows_of_one_call(
        self, encoder: Encoder, crops: NDArray[Any]
    ) -> None:
        batches = [crops[:16], crops[16:17], crops[17:]]
        found = list(encoder.encode_all(iter(batches)))
        assert [rows.shape for rows in found] == [(len(batch), encoder.dim) for batch in batches]
        assert all(rows.dtype == encoder.dtype for rows in found)
        whole = encoder.encode(crops).astype(float)
        np.testing.assert_allclose(np.concatenate(found).astype(float), whole, rtol=5e-3, atol=5e-3)
        with pytest.raises(ValueError, match="prepare"):
            list(encoder.encode_all([np.zeros((2, 5, 5, 3), dtype=np.uint8)]))

    def test_no_crops_give_no_rows(self, encoder: Encoder) -> None:
        size = encoder.crop_size
        rows = encoder.encode(np.empty((0, size, size, 3), dtype=np.uint8))
        assert rows.shape == (0, encoder.dim)
        assert rows.dtype == encoder.dtype

    def test_wrong_crops_are_named(self, encoder: Encoder) -> None:
        with pytest.raises(ValueError, match="prepare"):
            encoder.encode(np.zeros((2, 5, 5, 3), dtype=np.uint8))
        with pytest.raises(ValueError, match="uint8"):
            encoder.encode(np.zeros((2, encoder.crop_size, encoder.crop_size, 3), dtype=np.float32))

    @pytest.mark.parametrize(
        "make",
        [
            lambda: _circle(mode="L"),
            lambda: _circle(mode="RGBA"),
            lambda: _circle(mode="LA"),
            lambda: _circle(mode="P"),
            lambda: _circle(mode="1"),
            lambda: _circle(mode="CMYK"),
            lambda: _circle(mode="L").convert("F"),
            lambda: _circle(mode="L").convert("I"),
            _sixteen_bit,
            _rotated,
            lambda: _circle((1, 1)),
            lambda: _circle((3000, 2)),
            lambda: _circle((2, 3000)),
            lambda: _circle((2500, 2000)),
        ],
        ids=[
            "grey",
            "rgba",
            "grey-alpha",
            "palette",
            "bitmap",
            "cmyk",
            "float",
            "int",
            "16-bit",
            "exif",
            "1x1",
            "wide",
            "tall",
            "large",
        ],
    )
    def test_an_image_of_any_kind_becomes_a_crop(
        self, encoder: Encoder, make: Callable[[], Image.Image]
    ) -> None:
        crop = encoder.prepare(make())
        assert crop.shape == (encoder.crop_size, encoder.crop_size, 3)
        assert crop.dtype == np.uint8
        assert np.isfinite(encoder.encode(crop[None])).all()

    def test_the_classifier_tells_two_classes_apart_and_comes_back_without_pickle(
        self, encoder: Encoder, crops: NDArray[Any], tmp_path: Path
    ) -> None:
        rows = encoder.encode(crops)
        labels = ["round"] * 20 + ["striped"] * 20
        classifier = encoder.make_classifier().adapt(rows).fit(rows, labels)
        assert classifier.classes_ == ("round", "striped")
        probabilities = classifier.predict_proba(rows)
        predicted = [classifier.classes_[code] for code in probabilities.argmax(axis=1)]
        assert np.mean([a == b for a, b in zip(predicted, labels, strict=True)]) >= 0.95
        assert classifier.features(rows).shape[0] == len(rows)

        arrays: dict[str, Any] = classifier.state()
        np.savez(tmp_path / "model.npz", **arrays)
        with np.load(tmp_path / "model.npz", allow_pickle=False) as saved:
            again = encoder.make_classifier().load_state(dict(saved))
        assert again.classes_ == classifier.classes_
        np.testing.assert_allclose(again.predict_proba(rows), probabilities, atol=1e-5)
