"""`hf:<name or folder>`: any image model of `transformers`, frozen (DINOv2, DINOv3, SigLIP 2, ViT …)."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from everylabel.model.classifiers.base import Classifier
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.encoders import hub_source
from everylabel.model.encoders.base import Encoder, choose_device
from everylabel.model.encoders.cuda import BatchedNetwork, place
from everylabel.model.encoders.hub_errors import first_line
from everylabel.model.encoders.hub_source import HubSource
from everylabel.model.encoders.image_recipe import ImageRecipe, load_fields, require_timm, timm_fields
from everylabel.model.encoders.text_tower import TextTower
from everylabel.model.encoders.vision_pooling import VisionPooling, pooler_of, vision_pooling, whole_picture
from everylabel.model.torch_module import to_onnx

log = logging.getLogger(__name__)
_LFS = b"version https://git-lfs"


class HuggingFaceEncoder(Encoder):
    """A frozen image model loaded by `AutoModel`, pooled as its makers do for linear probes (`vision_pooling`).

    Rows are (hidden size,) float16. Crops have the size of the model's own image processor, and their
    values are what it makes of them (`image_recipe`). Weights are read from safetensors, never unpickled, and no code that
    comes with a model is run.

    Of a model that reads images and texts, rows lie in the space of both: CLIP's image projection, SigLIP's pooled output.
    Where it is CLIP, SigLIP or SigLIP 2, `encode_words` reads words with its text tower.

    Raises:
        ValueError: `transformers` is not installed, or the model cannot be loaded; it says what helps.
    """

    def __init__(self, source: str, device: str = "auto") -> None:
        self.name = f"hf:{source}"
        self.device = choose_device(device)
        self._source, self._model, self._pooling, processor = _load(source)
        self.licence = self._source.licence
        folder = str(self._source.folder)
        self._text = TextTower(source, self._model, folder) if TextTower.is_in(self._model) else None
        network, self.device = place(
            self._model.eval().requires_grad_(False), self.device, fall_back=device == "auto"
        )
        self._model = network
        self.crop_size = _crop_size(processor)
        self.dtype = np.dtype(np.float16)
        self._recipe = ImageRecipe(processor).to(self.device)
        on_cpu = self._on_cpu_from_now_on if device == "auto" else None
        self._batched = BatchedNetwork(self._forward, self.device, on_cpu)
        if torch.device(self.device).type == "cuda":
            self.batches_at_a_time = 2
            self.batch_size = self._batched.fitting_batch(self.crop_size)
        blank = np.zeros((1, self.crop_size, self.crop_size, 3), dtype=np.uint8)
        self.dim = int(self._encode_batch(blank).shape[1])

    @property
    def identity(self) -> str:
        """The commit on the hub or the digest of the folder, and how the model's output is pooled."""
        return f"hf:{self._source.identity} {self._pooling.kind}"

    def make_classifier(self) -> Classifier:
        """Make a calibrated linear head for these embeddings."""
        return EmbeddingClassifier()

    def to_onnx(self) -> bytes:
        """Return the model, its normalisation and its pooling as ONNX, in full precision."""
        network = _OnCPU(self)
        example = torch.zeros(2, self.crop_size, self.crop_size, 3, dtype=torch.uint8)
        return to_onnx(network, example, "crops", "rows")

    @property
    def has_text_tower(self) -> bool:
        """Return whether the model is of two towers: CLIP, SigLIP or SigLIP 2."""
        return self._text is not None

    def encode_words(self, words: Sequence[str]) -> NDArray[Any]:
        """Turn n texts into (n, dim) float32 rows, as the contract says; CLIP reads 77 tokens, SigLIP 64."""
        if self._text is None:
            return super().encode_words(words)
        rows = self._text.encode(words) if words else np.empty((0, self.dim), dtype=np.float32)
        if not np.isfinite(rows).all():
            raise FloatingPointError(
                f"Encoder {self.name!r} gave values that are not finite; its weights are damaged."
            )
        return rows

    def encode_all(self, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Encode batches as they come; on a GPU the next is sent while one is computed."""
        for rows in self._batched.encode_all(self._checked(batches)):
            yield self._to_store(rows)

    def forward_rate(self, crops: NDArray[Any]) -> float | None:
        """Measure the bare network on crops that lie on a GPU already."""
        return None if self.device == "cpu" else self._batched.forward_rate(crops)

    def _encode_batch(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        return self._batched.encode(crops)

    def _on_cpu_from_now_on(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        """Compute crops that a GPU has no memory for, and every one after them, on the CPU."""
        if self.device != "cpu":
            self.device, self.batch_size, self.batches_at_a_time = "cpu", Encoder.batch_size, 1
            self._model, self._recipe = self._model.cpu(), self._recipe.to("cpu")
            self._batched = BatchedNetwork(self._forward, "cpu")
        size = Encoder.batch_size
        pieces = [crops[start : start + size] for start in range(0, len(crops), size)]
        return np.concatenate([self._batched.encode(piece) for piece in pieces])

    def _forward(self, crops: torch.Tensor) -> torch.Tensor:
        pixels = self._recipe.pixels(crops)
        given = {"pixel_values": pixels}
        if _takes_patches(self._model):
            given = _patches(pixels, self._model.config.vision_config.patch_size)
        if hasattr(self._model, "get_image_features"):  # image-and-text models: CLIP, SigLIP
            output = self._model.get_image_features(**given)
        else:
            output = self._model(**given, **whole_picture(self._model, pixels))
        return self._pooling.rows(output)


class _OnCPU(torch.nn.Module):
    """An encoder's network as a module, with a copy of its own on the CPU wherever the encoder's is."""

    def __init__(self, encoder: HuggingFaceEncoder) -> None:
        super().__init__()
        self.encoder = copy.copy(encoder)
        on_cpu = copy.deepcopy(encoder._model).cpu().float() if encoder.device != "cpu" else encoder._model
        self.model = self.encoder._model = on_cpu
        self.encoder._recipe = encoder._recipe.to("cpu")

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Return the (n, dim) rows of (n, h, w, 3) uint8 crops."""
        return self.encoder._forward(crops).float()


def _takes_patches(model: Any) -> bool:
    """Return whether a model takes pictures of any shape, cut into patches: SigLIP 2 of the kind NaFlex."""
    return bool(model.config.model_type == "siglip2")


def _patches(pixels: torch.Tensor, size: int) -> dict[str, torch.Tensor]:
    """Cut (n, c, h, w) pixels into patches, row by row: (n, h * w / size², size² * c), and say how many there are either way."""
    n, channels, height, width = pixels.shape
    rows, columns = height // size, width // size
    cut = pixels.reshape(n, channels, rows, size, columns, size).permute(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": cut.reshape(n, rows * columns, size * size * channels),
        # All are of one shape, whose position embeddings are made once: on the CPU, for the model reads the numbers.
        "spatial_shapes": torch.tensor([[rows, columns]]),
    }


def _load(source: str) -> tuple[HubSource, Any, VisionPooling, dict[str, Any]]:
    try:
        from transformers import AutoModel  # noqa: PLC0415  an optional extra
    except ImportError as error:
        raise ValueError(
            f"Encoder hf:{source} needs transformers. Install it with: pip install 'everylabel[hf]'"
        ) from error
    found = hub_source.find(source)
    log.info("hf:%s: %s, licence %s", source, found.identity, found.licence)
    folder = str(found.folder)
    try:
        if timm_fields(found.folder) is not None:
            require_timm()
        model, loaded = AutoModel.from_pretrained(
            folder,
            **pooler_of(found.folder),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
        pooling = vision_pooling(model.config, loaded["missing_keys"])
        processor = load_fields(folder)
    except Exception as error:  # whatever damaged files make transformers, safetensors and torch raise
        if pointer := _lfs_pointer(found.folder):
            raise ValueError(
                f"Cannot load hf:{source}: {pointer} is not whole: it is a pointer of Git LFS. Run git lfs pull in the folder it came from."
            ) from error
        raise ValueError(
            f"Cannot load hf:{source}: {first_line(error)} If its files are not whole, fetch them again. Give the name of an image model on the hub, or a folder with "
            "config.json, preprocessor_config.json and model.safetensors."
        ) from error
    # Some checkpoints are of half precision; the CPU computes in full.
    return found, model.float(), pooling, processor


def _lfs_pointer(folder: Path) -> str | None:
    """Return the name of a file of weights that is only a pointer of Git LFS to them."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as opened:
            if opened.read(len(_LFS)) == _LFS:
                return path.name
    return None


def _crop_size(processor: dict[str, Any]) -> int:
    if processor.get("max_num_patches") and processor.get(
        "patch_size"
    ):  # SigLIP 2's NaFlex: a square of so many patches
        return math.isqrt(int(processor["max_num_patches"])) * int(processor["patch_size"])
    size = processor.get("crop_size") if processor.get("do_center_crop") else None
    size = size or processor.get("size") or 224
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge") or size.get("longest_edge") or 224
    return int(size)
