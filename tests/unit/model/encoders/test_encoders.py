"""What single encoders promise beyond the contract."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from everylabel.model import encoders
from everylabel.model.encoders.efficientnet_lite import LITE0, _PooledFeatures
from everylabel.model.encoders.in_order import in_order
from everylabel.model.encoders.pixels import letterbox
from everylabel.model.encoders.rgb import to_rgb
from everylabel.model.encoders.siamese import SiameseNetwork

REPOSITORY = Path(__file__).resolve().parents[4]


def digit_crops(encoder: encoders.Encoder, classes: tuple[int, ...], n: int) -> tuple[np.ndarray, list[str]]:
    digits = load_digits()
    chosen = np.flatnonzero(np.isin(digits.target, classes))[:n]
    images = [Image.fromarray((digits.images[i] * 255 / 16).astype(np.uint8)) for i in chosen]
    return np.stack([encoder.prepare(image) for image in images]), [str(digits.target[i]) for i in chosen]


def test_onnx_runtime_gives_what_torch_gives() -> None:
    encoder = encoders.create("efficientnet-lite0", device="cpu")
    crops = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = _PooledFeatures(LITE0).eval()(torch.from_numpy(crops)).numpy()
    assert np.abs(encoder._encode_batch(crops) - expected).max() < 1e-3


ENCODE = """
import numpy as np
from everylabel.model import encoders

encoders.create("efficientnet-lite0", device="cpu").encode(np.zeros((2, 160, 160, 3), np.uint8))
"""


def test_encoding_reports_to_nobody_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """ONNX Runtime would: a device's number in the home folder, and a session of its reports in the temporary one."""
    named = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    folders = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", ENCODE], env={**named, **folders}, cwd=REPOSITORY, check=True, timeout=120
    )
    assert not list(tmp_path.iterdir())


def test_the_default_encoder_reads_digits_from_60_labels() -> None:
    encoder = encoders.create("efficientnet-lite0", device="cpu")
    crops, names = digit_crops(encoder, tuple(range(10)), 300)
    rows = encoder.encode(crops)
    classifier = encoder.make_classifier().adapt(rows).fit(rows[:60], names[:60])
    predicted = np.array(classifier.classes_)[classifier.predict_proba(rows[60:]).argmax(axis=1)]
    assert np.mean(predicted == np.array(names[60:])) > 0.65


@pytest.mark.parametrize("name", ["direct-cnn", "siamese"])
def test_a_small_network_learns_from_60_labels(name: str) -> None:
    encoder = encoders.create(name, device="cpu")
    crops, names = digit_crops(encoder, (3, 8), 260)
    rows = encoder.encode(crops)
    classifier = encoder.make_classifier().fit(rows[:60], names[:60])
    predicted = np.array(classifier.classes_)[classifier.predict_proba(rows[60:]).argmax(axis=1)]
    assert np.mean(predicted == np.array(names[60:])) > 0.8


def test_training_twice_gives_the_same_network() -> None:
    encoder = encoders.create("siamese", device="cpu")
    crops, names = digit_crops(encoder, (0, 1), 24)
    rows = encoder.encode(crops)
    first, second = (
        encoder.make_classifier().fit(rows[:16], names[:16]).predict_proba(rows) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_the_siamese_network_classifies_from_one_crop_a_class() -> None:
    torch.manual_seed(0)
    network = SiameseNetwork(2).eval()
    dark, bright = torch.full((1, 64 * 64 * 3), 10.0), torch.full((1, 64 * 64 * 3), 240.0)
    with torch.no_grad():
        network.set_support(torch.cat([dark, bright]), torch.tensor([0, 1]))
        probabilities = network.predict_proba(torch.cat([dark, bright]))
    assert probabilities.argmax(dim=1).tolist() == [0, 1]
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(2))


def test_a_missing_transformers_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'everylabel\[hf\]'"):
        encoders.create("hf:anything", device="cpu")


def test_a_folder_without_a_model_says_what_belongs_there(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match=r"config\.json"):
        encoders.create(f"hf:{tmp_path}", device="cpu")
    with pytest.raises(ValueError, match="name or folder"):
        encoders.create("hf:", device="cpu")


def test_sixteen_bit_grey_keeps_its_shades() -> None:
    image = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    assert np.asarray(to_rgb(image))[0, :, 0].tolist() == [0, 127, 255]


def test_transparency_is_white_as_in_a_browser() -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    assert np.asarray(to_rgb(image))[0].tolist() == [[255, 255, 255], [10, 20, 30]]


def test_a_narrow_crop_keeps_its_shape() -> None:
    crop = letterbox(Image.new("RGB", (100, 50), (255, 0, 0)), 64)
    red = (crop == (255, 0, 0)).all(axis=2)
    assert red.sum(axis=0).max() == 32
    assert red.sum(axis=1).max() == 64


@pytest.mark.parametrize("size", [(8, 8), (256, 256), (300, 200), (641, 480), (80, 40), (2500, 2000)])
def test_a_crop_is_resized_as_pillow_does(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    scale = 160 / max(size)
    width, height = round(size[0] * scale), round(size[1] * scale)
    expected = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))
    top, left = (160 - height) // 2, (160 - width) // 2
    found = letterbox(image, 160)[top : top + height, left : left + width]
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 2
    assert difference.mean() < 0.01


def test_several_batches_are_worked_on_at_a_time_and_come_back_in_order() -> None:
    together, taken = threading.Barrier(3, timeout=60), []

    def work(item: int) -> int:
        if item < 3:
            together.wait()  # one alone would wait for ever
        time.sleep(0.02 * (item % 3 == 0))
        return -item

    def items() -> Iterator[int]:
        for item in range(12):
            taken.append(item)
            yield item

    for done, result in enumerate(in_order(work, items(), threads=3)):
        assert result == -done
        assert len(taken) <= done + 5
    assert done == 11
