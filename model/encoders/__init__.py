"""Encoders by name: crops -> rows to store. `create("efficientnet-lite0")` makes one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from everylabel.model import plugins
from everylabel.model.lazy import lazy_names

if TYPE_CHECKING:
    from everylabel.model.encoders.base import Encoder

__all__ = [
    "DEFAULT",
    "DEFAULT_TEXT",
    "HUGGING_FACE_PREFIX",
    "PLUGINS",
    "Encoder",
    "create",
    "hub_licence",
    "names",
    "reads",
    "require_known",
]

DEFAULT = "efficientnet-lite0"
DEFAULT_TEXT = "all-minilm-l6-v2"
HUGGING_FACE_PREFIX = "hf:"
PLUGINS = "everylabel.encoders"
"""The group of entry points for encoders of other packages."""

# name -> module and class. Imported on demand: a command's --help should not wait for ONNX Runtime.
_REGISTRY = {
    "efficientnet-lite0": ("efficientnet_lite", "EfficientNetLite0Encoder"),
    "efficientnet-lite2": ("efficientnet_lite", "EfficientNetLite2Encoder"),
    "direct-cnn": ("direct_cnn", "DirectCNNEncoder"),
    "siamese": ("siamese", "SiameseEncoder"),
}
# Those that read texts.
_TEXT_REGISTRY = {DEFAULT_TEXT: ("text", "MiniLMEncoder")}


__getattr__ = lazy_names(__name__, {"Encoder": "base"})


def reads(name: str) -> Literal["image", "text"]:
    """Return what an encoder of this name reads; nothing of our own is loaded to say so.

    Raises:
        ValueError: a plugin cannot be loaded.
    """
    if name in _TEXT_REGISTRY:
        return "text"
    if name in _REGISTRY or name.startswith(HUGGING_FACE_PREFIX):
        return "image"
    plugin = _plugin(name)
    found: Literal["image", "text"] = "image" if plugin is None else plugin.reads
    return found


def names() -> tuple[str, ...]:
    """Return our own encoders of images that have a name; `create` knows more."""
    return tuple(_REGISTRY)


def require_known(name: str) -> None:
    """Check that there is an encoder of this name; of a Hugging Face model, only that one is named.

    Raises:
        ValueError: there is none, and the message lists what there is; or a plugin cannot be loaded.
    """
    if name in _REGISTRY | _TEXT_REGISTRY or name.removeprefix(HUGGING_FACE_PREFIX) not in ("", name):
        return
    if _plugin(name) is None:
        raise _unknown(name)


def hub_licence(name: str) -> str | None:
    """Return the licence of a Hugging Face model in words, as its model card says; None for every other encoder.

    The card may be downloaded for it, the model is not.
    """
    if not name.startswith(HUGGING_FACE_PREFIX):
        return None
    found: str = import_module(f"{__name__}.hub_source").licence(name.removeprefix(HUGGING_FACE_PREFIX))
    return found


def create(name: str = DEFAULT, device: str = "auto", threads: int | None = None) -> Encoder:
    """Make an encoder.

    Args:
        name: one of `names()`, `all-minilm-l6-v2` for texts, `hf:` and a model name or folder for `transformers`,
            one that an installed package has entered in `everylabel.encoders`, or `package.module:Class`.
        device: `auto`, `cpu`, `cuda` or `cuda:<number>`.
        threads: CPU threads the default encoder takes; None leaves it to ONNX Runtime, one a core. The
            others use PyTorch's own pool (`torch.set_num_threads`).

    Raises:
        ValueError: an unknown name or device, or a model or plugin that cannot be loaded; the message says the way
            out.
    """
    known = _REGISTRY | _TEXT_REGISTRY
    if name in known:
        module, class_name = known[name]
        encoder: Encoder = getattr(import_module(f"{__name__}.{module}"), class_name)(
            device=device, threads=threads
        )
        return encoder
    if name.startswith(HUGGING_FACE_PREFIX):
        source = name.removeprefix(HUGGING_FACE_PREFIX)
        from_a_hub = import_module(f"{__name__}.hugging_face")
        hugging_face: Encoder = from_a_hub.HuggingFaceEncoder(source, device=device)
        return hugging_face
    plugin = _plugin(name)
    if plugin is None:
        raise _unknown(name)
    made: Encoder = plugin(device=device, threads=threads)
    return made


def _unknown(name: str) -> ValueError:
    also = "".join(f", {found}" for found in plugins.names(PLUGINS))
    return ValueError(
        f"Unknown encoder {name!r}. Known: {', '.join(names())}{also}, {DEFAULT_TEXT} for texts, "
        f"{HUGGING_FACE_PREFIX}<name or folder> for a Hugging Face model, or package.module:Class for a class of "
        "yours. A plugin's name is there once its package is installed where everylabel runs."
    )


def _plugin(name: str) -> Any:
    found = plugins.find(PLUGINS, name)
    if found is not None:
        plugins.require_kind(found, import_module(f"{__name__}.base").Encoder, name)
    return found
