"""The contract tests of an encoder of images."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from everylabel.model.encoders.base import Encoder


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
    """Tests of every promise of an encoder of images: subclass it as `Test…` with a fixture `encoder`."""

    @pytest.fixture
    def crops(self, encoder: Encoder) -> NDArray[Any]:
        images = [_circle(seed=seed) for seed in range(20)] + [_stripes(seed) for seed in range(20)]
        return np.stack([encoder.prepare(image) for image in images])

    def test_rows_are_as_declared(self, encoder: Encoder, crops: NDArray[Any]) -> None:
        rows = encoder.encode(crops)
        assert rows.shape == (len(crops), encoder.dim)
        assert rows.dtype == encoder.dtype
        assert np.isfinite(rows).all()
        assert encoder.identity in encoder.signature

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

    def test_words_give_rows_beside_those_of_crops_or_are_refused(self, encoder: Encoder) -> None:
        if not encoder.has_text_tower:
            with pytest.raises(ValueError, match="text tower"):
                encoder.encode_words(["a yellow circle"])
            return
        rows = encoder.encode_words(["a yellow circle", "stripes"])
        assert rows.shape == (2, encoder.dim)
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()
        assert np.linalg.norm(rows, axis=1).all(), "a row of zeros is near nothing"
        assert encoder.encode_words([]).shape == (0, encoder.dim)
        alone = encoder.encode_words(["stripes"])[0]
        assert np.abs(alone - rows[1]).max() <= 2e-3 * np.abs(rows).max()

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
