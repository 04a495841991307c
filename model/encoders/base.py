"""The contract every encoder keeps, and how to add one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.encoders.pixels import letterbox, to_rgb

if TYPE_CHECKING:
    from model.classifier import Classifier


class Encoder(ABC):
    """Turns image crops into the rows a project stores once and every round reads.

    To add an encoder, write one file beside this one:

    1. Subclass `Encoder` (a frozen network) or `model.encoders.trainable.TrainableEncoder` (a network
       trained on the labels), set `name`, `dim`, `dtype`, `crop_size` and `batch_size`.
    2. Write `_encode_batch`: at most `batch_size` crops in, one row a crop out. Batching, checking, the
       empty pool and the cast to `dtype` are done here, so that no encoder ever sees a whole pool at once.
    3. Write `make_classifier`: what a session trains on these rows.
    4. Enter it in the registry of `model/encoders/__init__.py`. The contract tests then run on it.

    The same crop must give the same row, whatever stands beside it in a batch: rows are stored for good.
    """

    reads: Literal["image", "text"] = "image"
    """What its crops are. One for texts has `prepare_text` in the place of `prepare`."""
    name: str
    dim: int
    dtype: np.dtype[Any]
    crop_size: int
    batch_size: int = 32

    @property
    def signature(self) -> str:
        """What a stored row depends on; rows with another signature must be encoded anew."""
        return f"{self.name} {self.crop_size}px {self.dim}x{self.dtype.name}"

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Turn one image of any mode and size into a crop: (crop_size, crop_size, 3) uint8, shape kept."""
        return letterbox(to_rgb(image), self.crop_size)

    def prepare_text(self, text: str) -> NDArray[Any]:
        """Turn one text into a crop, where `reads` is `text`.

        Raises:
            ValueError: this encoder reads images.
        """
        raise ValueError(f"Encoder {self.name!r} reads images, not texts: use prepare.")

    def encode(self, crops: NDArray[Any]) -> NDArray[Any]:
        """Turn prepared crops into rows to store.

        Args:
            crops: (n, crop_size, crop_size, 3) uint8, as `prepare` makes them; n may be 0.

        Returns:
            (n, dim) of `dtype`.

        Raises:
            ValueError: the crops have another shape or dtype.
            FloatingPointError: the network gave a value that is not finite.
        """
        expected = (self.crop_size, self.crop_size, 3)
        if crops.ndim != 4 or crops.shape[1:] != expected or crops.dtype != np.uint8:
            raise ValueError(
                f"Encoder {self.name!r} takes crops of shape (n, {expected[0]}, {expected[1]}, 3) and dtype "
                f"uint8, not {crops.shape} {crops.dtype}. Make them with encoder.prepare(image) and np.stack."
            )
        rows = np.empty((len(crops), self.dim), dtype=self.dtype)
        for start in range(0, len(crops), self.batch_size):
            # Copied, for torch warns about a crop that is a read-only view of an image or a memory map.
            batch = self._encode_batch(crops[start : start + self.batch_size].copy())
            if not np.isfinite(batch).all():
                raise FloatingPointError(
                    f"Encoder {self.name!r} gave values that are not finite; its weights are damaged."
                )
            if self.dtype == np.float16:
                batch = np.clip(batch, -65504.0, 65504.0)
            rows[start : start + len(batch)] = batch
        return rows

    @abstractmethod
    def make_classifier(self) -> Classifier:
        """Make a new, unfitted classifier for these rows."""

    @abstractmethod
    def _encode_batch(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        """Encode 1 to `batch_size` crops, (n, h, w, 3) uint8 -> (n, dim) of any float dtype or uint8."""


def choose_device(device: str) -> str:
    """Turn `auto` into `cuda` where a GPU is usable and `cpu` elsewhere; other names are checked.

    Raises:
        ValueError: a device that PyTorch does not know, or a GPU that is not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"Unknown device {device!r}. Use auto, cpu, cuda or cuda:<number>.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"Device {device!r} was asked for, but PyTorch sees no CUDA GPU. Install a CUDA build of torch "
            "and check nvidia-smi, or use the device auto or cpu."
        )
    return device
