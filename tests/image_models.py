"""Small image models of `transformers`, of the real architectures and with random weights, saved as a user has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

SIZE = 32
VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": SIZE,
    "patch_size": 8,
}
MAPS = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
WINDOWS = {
    "image_size": SIZE,
    "patch_size": 4,
    "embed_dim": 12,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
}
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": SIZE, "width": SIZE},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def made(model: str, config: str, **fields: Any) -> Any:
    """Make a model whose weights are all random, biases and norms too: nothing is right by being zero or one."""
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, model):
        pytest.skip(f"transformers {transformers.__version__} has no {model}")
    torch.manual_seed(0)
    network = getattr(transformers, model)(getattr(transformers, config)(**fields)).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    return network


def saved(network: Any, folder: Path, processor: dict[str, Any] | None = None) -> str:
    """Save a model with its image processor; returns the encoder's name."""
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor or PROCESSOR))
    return f"hf:{folder}"
