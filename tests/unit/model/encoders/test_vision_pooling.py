"""A row is what the makers of a model read for classification: never a random pooler, never registers in the mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from everylabel.model import encoders
from tests.image_models import MAPS, SIZE, VIT, WINDOWS, made, saved

CLASSIFIERS = [
    ("ViTForImageClassification", "ViTConfig", VIT, "classifier"),
    ("DeiTForImageClassification", "DeiTConfig", VIT, "classifier"),
    ("ViTMSNForImageClassification", "ViTMSNConfig", VIT, "classifier"),
    ("Dinov2ForImageClassification", "Dinov2Config", VIT, "classifier"),
    ("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", VIT, "classifier"),
    ("BeitForImageClassification", "BeitConfig", VIT, "classifier"),
    ("Data2VecVisionForImageClassification", "Data2VecVisionConfig", VIT, "classifier"),
    ("IJepaForImageClassification", "IJepaConfig", VIT, "classifier"),
    ("ConvNextForImageClassification", "ConvNextConfig", MAPS, "classifier"),
    ("ConvNextV2ForImageClassification", "ConvNextV2Config", MAPS, "classifier"),
    ("SwinForImageClassification", "SwinConfig", WINDOWS, "classifier"),
    (
        "ResNetForImageClassification",
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
        "classifier.1",
    ),
]


def noise(n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)


def pixels(crops: np.ndarray) -> torch.Tensor:
    mean, std = (torch.tensor(v) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    return ((torch.from_numpy(crops).float() / 255 - mean) / std).permute(0, 3, 1, 2)


def read_by(network: Any, layer: str, crops: np.ndarray) -> np.ndarray:
    """Return what reaches a layer of a model."""
    seen: list[torch.Tensor] = []
    network.get_submodule(layer).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        network(pixel_values=pixels(crops))
    return seen[0].flatten(1).numpy()


@pytest.mark.parametrize(
    ("model", "config", "fields", "layer"), CLASSIFIERS, ids=lambda given: str(given)[:40]
)
def test_a_row_is_what_the_familys_own_classifier_reads(
    model: str, config: str, fields: dict[str, Any], layer: str, tmp_path: Path
) -> None:
    network, crops = made(model, config, **fields), noise()
    encoder = encoders.create(saved(network, tmp_path), device="cpu")
    expected = read_by(network, layer, crops)
    np.testing.assert_allclose(encoder.encode(crops), expected, rtol=5e-3, atol=5e-3)


def test_a_row_of_dinov3_is_its_class_token_and_the_mean_of_its_patches_without_registers(
    tmp_path: Path,
) -> None:
    network, crops = made("DINOv3ViTModel", "DINOv3ViTConfig", **VIT, num_register_tokens=4), noise()
    encoder = encoders.create(saved(network, tmp_path), device="cpu")
    with torch.no_grad():
        tokens = network(pixel_values=pixels(crops)).last_hidden_state
    assert tokens.shape[1] == 1 + 4 + 16
    expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(dim=1)], dim=1).numpy()
    np.testing.assert_allclose(encoder.encode(crops), expected, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize(
    ("model", "config", "fields"),
    [
        ("DINOv3ConvNextModel", "DINOv3ConvNextConfig", MAPS),
        ("SiglipVisionModel", "SiglipVisionConfig", VIT),
        ("CLIPVisionModel", "CLIPVisionConfig", VIT),
    ],
)
def test_a_row_is_the_models_own_pooled_output_where_that_is_trained(
    model: str, config: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    network, crops = made(model, config, **fields), noise()
    encoder = encoders.create(saved(network, tmp_path), device="cpu")
    with torch.no_grad():
        expected = network(pixel_values=pixels(crops)).pooler_output.numpy()
    np.testing.assert_allclose(encoder.encode(crops), expected, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize(
    ("model", "config", "more"),
    [
        ("ViTForImageClassification", "ViTConfig", {}),
        ("DeiTForImageClassification", "DeiTConfig", {}),
        ("BeitForMaskedImageModeling", "BeitConfig", {}),
        ("Data2VecVisionModel", "Data2VecVisionConfig", {}),
        (
            "ViTMAEForPreTraining",
            "ViTMAEConfig",
            {
                "decoder_num_hidden_layers": 1,
                "decoder_hidden_size": 16,
                "decoder_num_attention_heads": 2,
                "decoder_intermediate_size": 16,
            },
        ),
    ],
)
def test_loading_a_model_again_gives_the_same_rows(
    model: str, config: str, more: dict[str, Any], tmp_path: Path
) -> None:
    """Checkpoints without a pooler get a random one from transformers, and an autoencoder masks patches by chance."""
    name, crops = saved(made(model, config, **VIT, **more), tmp_path), noise()
    torch.manual_seed(1)
    first = encoders.create(name, device="cpu").encode(crops)
    torch.manual_seed(2)
    np.testing.assert_array_equal(encoders.create(name, device="cpu").encode(crops), first)


def test_every_patch_counts_in_a_masked_autoencoder(tmp_path: Path) -> None:
    network = made("ViTMAEModel", "ViTMAEConfig", **VIT)
    encoder = encoders.create(saved(network, tmp_path), device="cpu")
    plain = np.zeros((17, SIZE, SIZE, 3), np.uint8)
    for patch in range(16):
        top, left = 8 * (patch // 4), 8 * (patch % 4)
        plain[patch, top : top + 8, left : left + 8] = 255
    rows = encoder.encode(plain).astype(float)
    assert (np.abs(rows[:16] - rows[16]).max(axis=1) > 0).all()


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    name = saved(made("Dinov2Model", "Dinov2Config", **VIT), tmp_path)
    kept = safetensors.load_file(tmp_path / "model.safetensors")
    del kept["layernorm.weight"]
    safetensors.save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"layernorm\.weight.*random"):
        encoders.create(name, device="cpu")


def test_a_checkpoint_of_half_precision_gives_the_rows_of_full(tmp_path: Path) -> None:
    network, crops = made("Dinov2Model", "Dinov2Config", **VIT).half(), noise()
    encoder = encoders.create(saved(network, tmp_path), device="cpu")
    with torch.no_grad():
        tokens = network.float()(pixel_values=pixels(crops)).last_hidden_state
    expected = torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1).numpy()
    np.testing.assert_allclose(encoder.encode(crops), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("model", "config", "kind"),
    [
        ("Dinov2Model", "Dinov2Config", "cls+patches"),
        ("ViTModel", "ViTConfig", "cls"),
        ("SiglipVisionModel", "SiglipVisionConfig", "pooled"),
    ],
)
def test_the_pooling_is_part_of_the_signature(model: str, config: str, kind: str, tmp_path: Path) -> None:
    encoder = encoders.create(saved(made(model, config, **VIT), tmp_path), device="cpu")
    assert kind in encoder.signature.split()


@pytest.mark.parametrize("model", ["Dinov2", "ViTMAE"])
def test_what_is_pooled_is_exported_too(model: str, tmp_path: Path) -> None:
    encoder = encoders.create(saved(made(f"{model}Model", f"{model}Config", **VIT), tmp_path), device="cpu")
    crops = noise()
    session = onnxruntime.InferenceSession(encoder.to_onnx(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"crops": crops})[0]
    np.testing.assert_allclose(found, encoder.encode(crops), rtol=5e-3, atol=5e-3)


def test_a_data2vec_without_fine_tuning_gives_the_mean_of_its_patches(tmp_path: Path) -> None:
    network, crops = made("Data2VecVisionModel", "Data2VecVisionConfig", **VIT), noise()
    encoder = encoders.create(saved(network, tmp_path), device="cpu")
    with torch.no_grad():
        expected = network(pixel_values=pixels(crops)).last_hidden_state[:, 1:].mean(dim=1).numpy()
    np.testing.assert_allclose(encoder.encode(crops), expected, rtol=5e-3, atol=5e-3)


def cut_short(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:1000])


def pointed_to(weights: Path) -> None:
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@pytest.mark.parametrize(
    ("damage", "said"),
    [(cut_short, "If its files are not whole"), (pointed_to, "is not whole: it is a pointer")],
)
def test_weights_that_are_not_whole_are_said_to_be(
    damage: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    name = saved(made("Dinov2Model", "Dinov2Config", **VIT), tmp_path)
    damage(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=said):
        encoders.create(name, device="cpu")
