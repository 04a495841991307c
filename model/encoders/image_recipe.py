"""Scale pixels as a model's own image processor does, and read the fields of one that cannot be loaded.

Crops are made by everylabel's `prepare`, whatever the processor says of shapes: the whole crop stays visible, resized by
Pillow's bicubic filter and padded to a square. Processors cut the middle out (CLIP, DINOv2, ConvNeXt) or squash (ViT, SigLIP,
DINOv3); what is at a crop's border may be what it is labelled for. On a square picture both are the same, but for the filter.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from everylabel.model.encoders.hub_errors import first_line
from everylabel.model.encoders.image_processor_files import CONFIG_FILE, PROCESSOR_FILES, read_json

_STEPS = ("do_rescale", "do_normalize", "do_flip_channel_order", "rescale_offset", "include_top")
_HALF = (0.5, 0.5, 0.5)


class ImageRecipe:
    """Turns (n, h, w, 3) uint8 crops into a network's (n, 3, h, w) float32 pixels.

    Args:
        fields: Of an image processor: `do_rescale`, `rescale_factor`, `rescale_offset`, `do_normalize`, `image_mean`, `image_std`,
            `do_flip_channel_order` and `include_top`, each with the meaning that `transformers` gives it.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        scale = float(fields.get("rescale_factor") or 1 / 255) if fields.get("do_rescale", True) else 1.0
        mean, std = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
        if fields.get("do_normalize", True):
            mean = _three(fields.get("image_mean") or _HALF)
            std = _three(fields.get("image_std") or _HALF)
            if fields.get("include_top"):  # EfficientNet's classifiers divide by it twice
                std = std * std
        if fields.get("rescale_offset"):  # to -1 … 1 before the mean is taken away
            mean = mean + 1.0
        # In units of a pixel's 0 … 255: one subtraction and one division.
        self._mean, self._std = ((values / scale).float() for values in (mean, std))
        self._flips = bool(fields.get("do_flip_channel_order"))

    def to(self, device: str) -> ImageRecipe:
        """Return the same recipe for crops on another device."""
        moved = copy.copy(self)
        moved._mean, moved._std = self._mean.to(device), self._std.to(device)
        return moved

    def pixels(self, crops: torch.Tensor) -> torch.Tensor:
        """Return what the network reads: (n, h, w, 3) uint8 -> (n, 3, h, w) float32, channels last in memory."""
        if self._flips:
            crops = crops.flip(-1)
        return ((crops.float() - self._mean) / self._std).permute(0, 3, 1, 2)


def load_fields(source: str) -> dict[str, Any]:
    """Return the fields of a model's image processor, with the defaults of its class.

    `transformers` makes some processors only beside torchvision (DINOv3's, timm's). Of those whose file says all that is needed, none has
    to be made.

    Raises:
        OSError, ValueError, ImportError, KeyError, RuntimeError: There is none, or it cannot be made.
    """
    from transformers import AutoImageProcessor  # noqa: PLC0415  an optional extra

    if (found := timm_fields(Path(source))) is not None:
        return found
    try:
        processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False, local_files_only=True)
    except (
        OSError,
        ValueError,
        ImportError,
        KeyError,
        RuntimeError,
    ):  # torchvision of another build raises the last
        if (found := written_fields(Path(source))) is None:
            raise
        return found
    # What it does not do it has no field for, or None, which `to_dict` leaves out.
    return {**processor.to_dict(), **{name: getattr(processor, name, None) for name in _STEPS}}


def written_fields(folder: Path) -> dict[str, Any] | None:
    """Return the fields of a folder's image processor as they are written there; None where they leave something out."""
    for name in PROCESSOR_FILES:
        written = read_json(folder / name)
        found = written.get("image_processor", written)
        if isinstance(found, dict) and (found.get("size") or found.get("crop_size")):
            return found if _is_whole(found) else None
    return None


def timm_fields(folder: Path) -> dict[str, Any] | None:
    """Return the same of a model of timm, which has them in `config.json`; None of another."""
    pretrained = read_json(folder / CONFIG_FILE).get("pretrained_cfg")
    if not isinstance(pretrained, dict) or not pretrained.get("input_size"):
        return None
    _, height, width = pretrained["input_size"]
    return {
        "size": {"height": height, "width": width},
        "image_mean": pretrained.get("mean"),
        "image_std": pretrained.get("std"),
    }


def require_timm() -> None:
    """Check that timm's models can be made.

    Raises:
        ValueError: timm is missing, or torchvision is, or does not fit torch; the message says the way out.
    """
    try:
        import_module("timm")
    except (ImportError, RuntimeError) as error:  # torchvision of another build raises the latter
        raise ValueError(
            f"timm's models need timm, and a torchvision of the same version and kind (CPU or CUDA) as torch ({first_line(error)}). Install both from "
            "where torch came from: pip install timm torchvision."
        ) from error


def _is_whole(fields: Mapping[str, Any]) -> bool:
    return fields.get("do_normalize") is False or bool(fields.get("image_mean") and fields.get("image_std"))


def _three(values: Any) -> torch.Tensor:
    given = torch.as_tensor(values, dtype=torch.float64).reshape(-1)
    return given.expand(3) if len(given) == 1 else given
