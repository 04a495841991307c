"""What a network reads is what the image processor of its family makes of the same whole, square picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from everylabel.model import encoders
from everylabel.model.encoders.base import Encoder
from everylabel.model.encoders.image_recipe import ImageRecipe, load_fields, timm_fields, written_fields
from everylabel.model.encoders.shrink import PADDING
from tests.image_models import PROCESSOR, SIZE, VIT, made, saved

BICUBIC = {"resample": 3}
CUT = {
    "do_center_crop": True,
    "crop_size": {"height": SIZE, "width": SIZE},
    "size": {"shortest_edge": SIZE},
    **BICUBIC,
}
SQUASHED = {"size": {"height": SIZE, "width": SIZE}, **BICUBIC}
FAMILIES: dict[str, dict[str, Any]] = {
    "DINOv2": {"image_processor_type": "BitImageProcessor", **CUT},
    "CLIP": {"image_processor_type": "CLIPImageProcessor", **CUT},
    "ConvNeXt": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": SIZE},
        "crop_pct": 1.0,
        **BICUBIC,
    },
    "SigLIP": {"image_processor_type": "SiglipImageProcessor", **SQUASHED},
    "ViT": {"image_processor_type": "ViTImageProcessor", **SQUASHED},
    "ViT, 0 to 255": {
        "image_processor_type": "ViTImageProcessor",
        **SQUASHED,
        "do_rescale": False,
    },
    "ViT, its mean kept": {
        "image_processor_type": "ViTImageProcessor",
        **SQUASHED,
        "do_normalize": False,
    },
    "DeiT": {"image_processor_type": "DeiTImageProcessor", **CUT, "size": {"height": SIZE, "width": SIZE}},
    "BEiT": {
        "image_processor_type": "BeitImageProcessor",
        **SQUASHED,
        "do_center_crop": False,
    },
    "MobileViT, blue first": {"image_processor_type": "MobileViTImageProcessor", **CUT},
    "EfficientNet": {
        "image_processor_type": "EfficientNetImageProcessor",
        **SQUASHED,
        "do_center_crop": False,
        "include_top": True,
    },
    "EfficientNet from -1": {
        "image_processor_type": "EfficientNetImageProcessor",
        **SQUASHED,
        "rescale_offset": True,
        "rescale_factor": 1 / 127.5,
        "include_top": False,
    },
}
SHAPES = [(SIZE, SIZE), (90, 90), (80, 50), (30, 120), (500, 400), (7, 7)]


def picture(size: tuple[int, int]) -> Image.Image:
    """Make a picture with detail of every size, as photographs have."""
    rng = np.random.default_rng(0)
    found = np.zeros((size[1], size[0], 3))
    for step in (1, 4, 16):
        small = Image.fromarray(rng.integers(0, 256, (8 * step, 8 * step, 3), dtype=np.uint8))
        found += np.asarray(small.resize(size, Image.Resampling.BICUBIC)) / 3
    return Image.fromarray(found.astype(np.uint8))


def squared(image: Image.Image) -> Image.Image:
    """Pad a picture to a square, as crops are."""
    side = max(image.size)
    found = Image.new("RGB", (side, side), PADDING)
    found.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return found


class Prepared(Encoder):
    """The preparation that every encoder of images has by itself."""

    name, crop_size, dim, dtype = "prepared", SIZE, 3, np.dtype(np.float32)

    def make_classifier(self) -> Any:
        raise NotImplementedError

    def _encode_batch(self, crops: np.ndarray) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("family", FAMILIES)
def test_pixels_are_those_of_the_familys_processor(family: str, tmp_path: Path) -> None:
    """Exactly on a crop of the right size; resizing and its rounding are all that differs on others."""
    transformers = pytest.importorskip("transformers")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(FAMILIES[family]))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    recipe = ImageRecipe(load_fields(str(tmp_path)))
    for size in SHAPES:
        image = picture(size)
        crop = Prepared().prepare(image)
        found = recipe.pixels(torch.from_numpy(crop[None])).numpy()
        same = np.asarray(processor(Image.fromarray(crop), return_tensors="np")["pixel_values"])
        np.testing.assert_allclose(found, same, rtol=1e-5, atol=2e-5)
        expected = np.asarray(processor(squared(image), return_tensors="np")["pixel_values"])
        shade = float(1 / recipe._std.min())  # what 1 of a pixel's 255 is worth
        if size[0] == size[1]:
            assert np.abs(found - expected).max() <= 2.01 * shade
        else:  # the picture's sides are rounded, so it ends up to half a pixel sooner or later
            assert np.abs(found - expected).mean() <= 3 * shade


def test_nothing_of_a_crop_is_cut_off(tmp_path: Path) -> None:
    """Processors of this family keep the middle 87 % of a side, or the middle square of a wide picture."""
    name = saved(
        made("Dinov2Model", "Dinov2Config", **VIT),
        tmp_path,
        {
            **PROCESSOR,
            "image_processor_type": "BitImageProcessor",
            **CUT,
            "size": {"shortest_edge": SIZE * 8 // 7},
        },
    )
    encoder = encoders.create(name, device="cpu")
    wide = Image.new("RGB", (200, 100), (10, 10, 10))
    wide.paste((250, 250, 250), (0, 0, 20, 100))
    wide.paste((250, 250, 250), (180, 0, 200, 100))
    assert encoder.crop_size == SIZE
    middle = encoder.prepare(wide)[SIZE // 2, :, 0]
    assert middle[0] > 200
    assert middle[-1] > 200
    assert middle[SIZE // 2] < 50


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "inside a processor"])
def test_a_processor_that_needs_torchvision_is_read_from_its_file(nested: bool, tmp_path: Path) -> None:
    """DINOv3's is one; its file says all that is needed."""
    fields = {**PROCESSOR, "image_processor_type": "AProcessorThatIsNotHere"}
    name = saved(made("DINOv3ViTModel", "DINOv3ViTConfig", **VIT), tmp_path, fields)
    if nested:
        (tmp_path / "preprocessor_config.json").unlink()
        (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": fields}))
    encoder = encoders.create(name, device="cpu")
    assert encoder.crop_size == SIZE
    with_one = saved(made("DINOv3ViTModel", "DINOv3ViTConfig", **VIT), tmp_path / "with_one")
    crops = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    rows = encoders.create(with_one, device="cpu").encode(crops)
    np.testing.assert_array_equal(encoder.encode(crops), rows)


def test_a_processor_whose_file_leaves_things_out_is_no_guess(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 32, "width": 32}}')
    assert written_fields(tmp_path) is None
    (tmp_path / "preprocessor_config.json").write_text("{")
    assert written_fields(tmp_path) is None


def test_a_model_of_timm_says_what_it_needs_where_timm_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    config = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"input_size": [3, 224, 224]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"need timm, and a torchvision.*pip install timm torchvision"):
        encoders.create(f"hf:{tmp_path}", device="cpu")


def test_a_model_of_timm_says_in_its_config_how_crops_are_made(tmp_path: Path) -> None:
    config = {
        "architecture": "vit_small_patch14_dinov2",
        "pretrained_cfg": {
            "input_size": [3, 518, 518],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    fields = timm_fields(tmp_path)
    assert fields is not None
    assert fields["size"] == {"height": 518, "width": 518}
    grey = torch.full((1, 2, 2, 3), 128, dtype=torch.uint8)
    assert ImageRecipe(fields).pixels(grey)[0, :, 0, 0].tolist() == pytest.approx(
        [(128 / 255 - m) / s for m, s in zip([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], strict=True)],
        abs=1e-5,
    )
