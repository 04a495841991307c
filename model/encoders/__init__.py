"""Encoders by name: crops -> rows to store. `create("efficientnet-lite0")` makes one."""

from __future__ import annotations

from importlib import import_module

from model.encoders.base import Encoder

__all__ = ["DEFAULT", "HUGGING_FACE_PREFIX", "Encoder", "create", "names"]

DEFAULT = "efficientnet-lite0"
HUGGING_FACE_PREFIX = "hf:"

# name -> module and class. Imported on demand: a command's --help should not wait for ONNX Runtime.
_REGISTRY = {
    "efficientnet-lite0": ("model.encoders.efficientnet_lite0", "EfficientNetLite0Encoder"),
    "direct-cnn": ("model.encoders.direct_cnn", "DirectCNNEncoder"),
    "siamese": ("model.encoders.siamese", "SiameseEncoder"),
}


def names() -> tuple[str, ...]:
    """List the encoders that have a name of their own; `hf:<name or folder>` works beside them."""
    return tuple(_REGISTRY)


def create(name: str = DEFAULT, device: str = "auto", threads: int | None = None) -> Encoder:
    """Make an encoder by name.

    Args:
        name: one of `names()`, or `hf:` and a model name or folder for `transformers`.
        device: `auto`, `cpu`, `cuda` or `cuda:<number>`.
        threads: CPU threads the default encoder takes; None leaves it to ONNX Runtime, one a core. The
            others use PyTorch's own pool (`torch.set_num_threads`).

    Raises:
        ValueError: an unknown name or device, or a model that cannot be loaded; the message says the way out.
    """
    if name in _REGISTRY:
        module, class_name = _REGISTRY[name]
        encoder: Encoder = getattr(import_module(module), class_name)(device=device, threads=threads)
        return encoder
    if name.startswith(HUGGING_FACE_PREFIX):
        module = "model.encoders.hugging_face"
        source = name.removeprefix(HUGGING_FACE_PREFIX)
        hugging_face: Encoder = import_module(module).HuggingFaceEncoder(source, device=device)
        return hugging_face
    raise ValueError(
        f"Unknown encoder {name!r}. Known: {', '.join(names())}, "
        f"or {HUGGING_FACE_PREFIX}<name or folder> for a Hugging Face model."
    )
