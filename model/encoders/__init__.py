"""Encoders by name: crops -> rows to store. `create("efficientnet-lite0")` makes one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from model.encoders.base import Encoder

__all__ = ["DEFAULT", "DEFAULT_TEXT", "HUGGING_FACE_PREFIX", "Encoder", "create", "names", "reads"]

DEFAULT = "efficientnet-lite0"
DEFAULT_TEXT = "all-minilm-l6-v2"
HUGGING_FACE_PREFIX = "hf:"

# name -> module and class. Imported on demand: a command's --help should not wait for ONNX Runtime.
_REGISTRY = {
    "efficientnet-lite0": ("model.encoders.efficientnet_lite0", "EfficientNetLite0Encoder"),
    "direct-cnn": ("model.encoders.direct_cnn", "DirectCNNEncoder"),
    "siamese": ("model.encoders.siamese", "SiameseEncoder"),
}
# Those that read texts.
_TEXT_REGISTRY = {DEFAULT_TEXT: ("model.encoders.text", "MiniLMEncoder")}


def __getattr__(name: str) -> Any:
    """Import `Encoder`, and torch with it, where it is asked for."""
    if name == "Encoder":
        return import_module("model.encoders.base").Encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def reads(name: str) -> Literal["image", "text"]:
    """What an encoder of this name reads; nothing is loaded to say so."""
    return "text" if name in _TEXT_REGISTRY else "image"


def names() -> tuple[str, ...]:
    """List the encoders of images that have a name of their own; `hf:<name or folder>` works beside them."""
    return tuple(_REGISTRY)


def create(name: str = DEFAULT, device: str = "auto", threads: int | None = None) -> Encoder:
    """Make an encoder by name.

    Args:
        name: one of `names()`, `all-minilm-l6-v2` for texts, or `hf:` and a model name or folder for `transformers`.
        device: `auto`, `cpu`, `cuda` or `cuda:<number>`.
        threads: CPU threads the default encoder takes; None leaves it to ONNX Runtime, one a core. The
            others use PyTorch's own pool (`torch.set_num_threads`).

    Raises:
        ValueError: an unknown name or device, or a model that cannot be loaded; the message says the way out.
    """
    known = _REGISTRY | _TEXT_REGISTRY
    if name in known:
        module, class_name = known[name]
        encoder: Encoder = getattr(import_module(module), class_name)(device=device, threads=threads)
        return encoder
    if name.startswith(HUGGING_FACE_PREFIX):
        module = "model.encoders.hugging_face"
        source = name.removeprefix(HUGGING_FACE_PREFIX)
        hugging_face: Encoder = import_module(module).HuggingFaceEncoder(source, device=device)
        return hugging_face
    raise ValueError(
        f"Unknown encoder {name!r}. Known: {', '.join(names())}, {DEFAULT_TEXT} for texts, "
        f"or {HUGGING_FACE_PREFIX}<name or folder> for a Hugging Face model."
    )
