"""Pool what an image model of `transformers` returns into one row a crop, as its makers do for linear probes.

| family | row | source |
|---|---|---|
| DINOv2, with registers or without, DINOv3 | class token and mean of the patch tokens, both after the last norm | `dinov2/hub/classifiers.py`, `dinov3/hub/classifiers.py`: their linear classifiers read both |
| ViT (DINO too), DeiT, MSN, MAE | class token after the last norm | `ViTForImageClassification`, `DeiTForImageClassification`; He et al., 2111.06377, appendix A: linear probes on the class token |
| BEiT and Data2Vec without fine-tuning, I-JEPA | mean of the patch tokens, without the class token | Bao et al., 2106.08254; Assran et al., 2301.08243 |
| ConvNeXt, ConvNeXt V2, Swin, BEiT and Data2Vec with fine-tuning, Hiera, DINOv3 ConvNeXt, CLIP and SigLIP towers, timm, and others | the model's own pooled output: mean and norm, class token and norm, or attention pooling | the model's code |

A pooler that the checkpoint has no weights for is made up of random numbers by `transformers`: it is never read. ViT
classifiers (`google/vit-base-patch16-224`), DINO (`facebook/dino-vits16`), DeiT and BEiT without fine-tuning come without one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from everylabel.model.encoders.image_processor_files import CONFIG_FILE, read_json

Kind = Literal["cls", "cls+patches", "patches", "pooled", "mean"]

_CLASS_TOKEN = ("vit", "deit", "vit_msn", "vit_mae")
_CLASS_AND_PATCHES = ("dinov2", "dinov2_with_registers", "dinov3_vit")
_PATCHES_FROM = {"beit": 1, "data2vec-vision": 1, "ijepa": 0}
"""Families whose patch tokens are averaged, and how many tokens stand before them."""
_UNUSED = ("mask_token",)
"""Weights that only training reads."""
POOLER = "pooler."


@dataclass(frozen=True)
class VisionPooling:
    """How a model's tokens or maps become one row a crop."""

    kind: Kind
    """It is a part of the encoder's signature: rows that are pooled otherwise are never mixed."""
    first_patch: int = 0
    """Tokens that stand before those of the patches: the class token and the registers."""

    def rows(self, output: Any) -> torch.Tensor:
        """Return the (n, dim) rows of a model's output, or of the tensor that it is."""
        if self.kind in ("cls", "cls+patches", "patches"):
            tokens: torch.Tensor = output.last_hidden_state.float()
            patches: torch.Tensor = tokens[:, self.first_patch :].mean(dim=1)
            if self.kind == "patches":
                return patches
            return tokens[:, 0] if self.kind == "cls" else torch.cat([tokens[:, 0], patches], dim=1)
        found: torch.Tensor = output
        if not isinstance(output, torch.Tensor):
            pooled = getattr(output, "pooler_output", None) if self.kind == "pooled" else None
            found = output.last_hidden_state if pooled is None else pooled
        if found.ndim == 4:  # feature maps of a convolutional network: (n, c, h, w)
            found = found.float().mean(dim=(2, 3))
        elif found.ndim == 3:  # tokens: (n, tokens, hidden)
            found = found.float().mean(dim=1)
        return found


def vision_pooling(config: Any, missing: Collection[str]) -> VisionPooling:
    """Return how a model's output is pooled.

    Args:
        config: The model's configuration.
        missing: The names of the weights that its checkpoint does not have.

    Raises:
        ValueError: A weight is missing that every row depends on.
    """
    needed = [name for name in missing if not _is_pooler(name) and not name.endswith(_UNUSED)]
    if needed:
        raise ValueError(
            f"{len(needed)} of its weights are missing, such as {min(needed)}: they would be random, and so would every row."
        )
    family = config.model_type
    registers = int(getattr(config, "num_register_tokens", 0) or 0)
    if family in _CLASS_TOKEN:
        return VisionPooling("cls", 1)
    if family in _CLASS_AND_PATCHES:
        return VisionPooling("cls+patches", 1 + registers)
    trained = not any(_is_pooler(name) for name in missing)
    if family in _PATCHES_FROM and not (family != "ijepa" and trained):
        return VisionPooling("patches", _PATCHES_FROM[family])
    return VisionPooling("pooled" if trained else "mean")


def pooler_of(folder: Path) -> dict[str, bool]:
    """Return what else `AutoModel` has to be given for the model in a folder, so that a trained pooler is loaded.

    That of a fine-tuned Data2Vec holds its last norm, and `AutoModel` leaves it out by default.
    """
    family = read_json(folder / CONFIG_FILE).get("model_type")
    return {"add_pooling_layer": True} if family == "data2vec-vision" else {}


def whole_picture(model: Any, pixels: torch.Tensor) -> dict[str, Any]:
    """Return what else a model has to be given so that it reads every patch, in the same order each time.

    A masked autoencoder leaves out three patches in four otherwise, chosen by chance.
    """
    if model.config.model_type != "vit_mae":
        return {}
    model.config.mask_ratio = 0.0
    count = (pixels.shape[2] // model.config.patch_size) * (pixels.shape[3] // model.config.patch_size)
    return {
        "noise": torch.arange(count, device=pixels.device, dtype=torch.float32).expand(pixels.shape[0], count)
    }


def _is_pooler(name: str) -> bool:
    return name.startswith(POOLER) or f".{POOLER}" in name
