"""Every encoder keeps the same promises; one that is added to the registry is tested here without a new line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from everylabel.model import encoders
from everylabel.model.encoders import Encoder
from everylabel.model.testing import EncoderContract


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


class TestEveryEncoder(EncoderContract):
    pass


def test_an_unknown_encoder_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"efficientnet-lite0.*hf:"):
        encoders.create("resnet-9000")


def test_an_unknown_or_missing_device_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="auto, cpu, cuda"):
        encoders.create("direct-cnn", device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA GPU"):
            encoders.create("direct-cnn", device="cuda")
