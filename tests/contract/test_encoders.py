"""Every encoder keeps the same promises; one that is added to the registry is tested here without a new line."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from model import encoders
from model.encoders import Encoder


def circle(size: tuple[int, int] = (96, 96), mode: str = "RGB", seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(v) for v in rng.integers(0, 80, 3)))
    x, y = rng.integers(10, 40, 2)
    ImageDraw.Draw(image).ellipse((x, y, x + 40, y + 40), fill=(220, 200, 30))
    return image.convert(mode)


def stripes(seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    rows = ((np.arange(96) + rng.integers(0, 8)) // 4 % 2 * 200).astype(np.uint8)
    return Image.fromarray(np.tile(rows[:, None], (1, 96))).convert("RGB")


def saved_vit(folder: Path) -> str:
    """Save a small vision transformer with random weights, as a user would have one in a folder."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    transformers.ViTModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, '
        '"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
    )
    return f"hf:{folder}"


@pytest.fixture(scope="module", params=[*encoders.names(), "hf"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    name = request.param
    return encoders.create(saved_vit(tmp_path_factory.mktemp("vit")) if name == "hf" else name, device="cpu")


@pytest.fixture(scope="module")
def crops(encoder: Encoder) -> np.ndarray:
    images = [circle(seed=seed) for seed in range(20)] + [stripes(seed) for seed in range(20)]
    return np.stack([encoder.prepare(image) for image in images])


def test_rows_are_as_declared(encoder: Encoder, crops: np.ndarray) -> None:
    rows = encoder.encode(crops)
    assert rows.shape == (len(crops), encoder.dim)
    assert rows.dtype == encoder.dtype
    assert np.isfinite(rows).all()
    assert encoder.name in encoder.signature


def test_the_same_crop_gives_the_same_row_whatever_stands_beside_it(
    encoder: Encoder, crops: np.ndarray
) -> None:
    together = encoder.encode(crops).astype(np.float32)
    np.testing.assert_array_equal(encoder.encode(crops), encoder.encode(crops))
    scale = np.abs(together).max()
    for index in (0, 7, len(crops) - 1):
        alone = encoder.encode(crops[index : index + 1])[0].astype(np.float32)
        assert np.abs(alone - together[index]).max() <= 2e-3 * scale


def test_no_more_than_a_batch_reaches_the_network_at_once(
    encoder: Encoder, crops: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encoder.encode(crops)
    sizes: list[int] = []
    inner = encoder._encode_batch

    def counting(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return inner(batch)

    monkeypatch.setattr(encoder, "_encode_batch", counting)
    monkeypatch.setattr(encoder, "batch_size", 7)
    rows = encoder.encode(crops)
    assert sizes == [7, 7, 7, 7, 7, 5]
    np.testing.assert_allclose(rows.astype(float), whole.astype(float), rtol=5e-3, atol=5e-3)


def test_batches_as_they_come_give_the_rows_of_one_call(encoder: Encoder, crops: np.ndarray) -> None:
    batches = [crops[:16], crops[16:17], crops[17:]]
    found = list(encoder.encode_all(iter(batches)))
    assert [rows.shape for rows in found] == [(len(batch), encoder.dim) for batch in batches]
    assert all(rows.dtype == encoder.dtype for rows in found)
    whole = encoder.encode(crops).astype(float)
    np.testing.assert_allclose(np.concatenate(found).astype(float), whole, rtol=5e-3, atol=5e-3)
    with pytest.raises(ValueError, match="prepare"):
        list(encoder.encode_all([np.zeros((2, 5, 5, 3), dtype=np.uint8)]))


def test_no_crops_give_no_rows(encoder: Encoder) -> None:
    size = encoder.crop_size
    rows = encoder.encode(np.empty((0, size, size, 3), dtype=np.uint8))
    assert rows.shape == (0, encoder.dim)
    assert rows.dtype == encoder.dtype


def test_wrong_crops_are_named(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="prepare"):
        encoder.encode(np.zeros((2, 5, 5, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        encoder.encode(np.zeros((2, encoder.crop_size, encoder.crop_size, 3), dtype=np.float32))


def sixteen_bit() -> Image.Image:
    return Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16))


def rotated() -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = io.BytesIO()
    circle((80, 40)).save(stored, "JPEG", exif=exif)
    return Image.open(stored)


@pytest.mark.parametrize(
    "make",
    [
        lambda: circle(mode="L"),
        lambda: circle(mode="RGBA"),
        lambda: circle(mode="LA"),
        lambda: circle(mode="P"),
        lambda: circle(mode="1"),
        lambda: circle(mode="CMYK"),
        lambda: circle(mode="L").convert("F"),
        lambda: circle(mode="L").convert("I"),
        sixteen_bit,
        rotated,
        lambda: circle((1, 1)),
        lambda: circle((3000, 2)),
        lambda: circle((2, 3000)),
        lambda: circle((2500, 2000)),
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
def test_an_image_of_any_kind_becomes_a_crop(encoder: Encoder, make: Callable[[], Image.Image]) -> None:
    crop = encoder.prepare(make())
    assert crop.shape == (encoder.crop_size, encoder.crop_size, 3)
    assert crop.dtype == np.uint8
    assert np.isfinite(encoder.encode(crop[None])).all()


def test_the_classifier_tells_two_classes_apart_and_comes_back_without_pickle(
    encoder: Encoder, crops: np.ndarray, tmp_path: Path
) -> None:
    rows = encoder.encode(crops)
    labels = ["round"] * 20 + ["striped"] * 20
    classifier = encoder.make_classifier().adapt(rows).fit(rows, labels)
    assert classifier.classes_ == ("round", "striped")
    probabilities = classifier.predict_proba(rows)
    predicted = [classifier.classes_[code] for code in probabilities.argmax(axis=1)]
    assert np.mean([a == b for a, b in zip(predicted, labels, strict=True)]) >= 0.95
    assert classifier.features(rows).shape[0] == len(rows)

    np.savez(tmp_path / "model.npz", **classifier.state())
    with np.load(tmp_path / "model.npz", allow_pickle=False) as saved:
        again = encoder.make_classifier().load_state(dict(saved))
    assert again.classes_ == classifier.classes_
    np.testing.assert_allclose(again.predict_proba(rows), probabilities, atol=1e-5)


def test_an_unknown_encoder_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"efficientnet-lite0.*hf:"):
        encoders.create("resnet-9000")


def test_an_unknown_or_missing_device_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="auto, cpu, cuda"):
        encoders.create("direct-cnn", device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA GPU"):
            encoders.create("direct-cnn", device="cuda")
