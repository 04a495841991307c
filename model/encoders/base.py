"""The contract every encoder keeps, and how to add one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from everylabel.model.classifiers.base import Classifier
from everylabel.model.encoders.pixels import letterbox
from everylabel.model.encoders.rgb import to_rgb
from everylabel.model.onnx_graph import NotExportableError

ENOUGH = 2
"""A picture of so many times the crop's size loses nothing that an encoder would see."""


class Encoder(ABC):
    """Turns image crops into the rows a project stores once and every round reads.

    To add an encoder, in a package of yours (`docs/extending.md`) or in one file beside this one:

    1. Subclass `Encoder` (a frozen network) or `everylabel.model.encoders.trainable.TrainableEncoder` (a network
       trained on the labels), set `name`, `dim`, `dtype`, `crop_size` and `batch_size`.
    2. Write `_encode_batch`: at most `batch_size` crops in, one row a crop out. Batching, checking, the
       empty pool and the cast to `dtype` are done here, so that no encoder ever sees a whole pool at once.
    3. Write `make_classifier`: what a session trains on these rows.
    4. If it has a text tower, write `encode_words`, too: people can then search the pool by words.
    5. Enter it in the entry points `everylabel.encoders` of your package, or in the registry of
       `model/encoders/__init__.py`. `everylabel.model.testing.EncoderContract` tests it.

    The same crop must give the same row, whatever stands beside it in a batch: rows are stored for good. Only
    the rounding of a matrix product of another size may differ: 0.002 of the rows' largest value at most.
    """

    reads: Literal["image", "text"] = "image"
    """What its crops are. One for texts has `prepare_text` in the place of `prepare`."""
    name: str
    licence: str = "unknown: ask who made the encoder"
    """The licence of the weights it brings along, for the card of an exported model."""
    dim: int
    dtype: np.dtype[Any]
    crop_size: int
    batch_size: int = 32
    batches_at_a_time: int = 1

    @property
    def identity(self) -> str:
        """Stands for the weights in the signature: the name, where that always means the same ones."""
        return self.name

    @property
    def signature(self) -> str:
        """Everything that a stored row depends on; rows with another signature must be encoded anew."""
        return f"{self.identity} {self.crop_size}px {self.dim}x{self.dtype.name}"

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Turn one image of any mode and size into a crop: (crop_size, crop_size, 3) uint8, shape kept."""
        return letterbox(to_rgb(image), self.crop_size)

    @property
    def has_own_preparation(self) -> bool:
        """Return whether its crops are made otherwise than by the `prepare` of this class, which other processes know, too."""
        return self.reads != "image" or type(self).prepare is not Encoder.prepare

    @property
    def enough_pixels(self) -> int | None:
        """How many pixels of a picture's longer side `prepare` makes use of; None where every one counts."""
        return ENOUGH * self.crop_size if type(self).prepare is Encoder.prepare else None

    def prepare_text(self, text: str) -> NDArray[Any]:
        """Turn one text into a crop, where `reads` is `text`.

        Raises:
            ValueError: this encoder reads images.
        """
        raise ValueError(f"Encoder {self.name!r} reads images, not texts: use prepare.")

    @property
    def has_text_tower(self) -> bool:
        """Return whether `encode_words` gives rows: an encoder of texts does, and one of images that brings a text tower along."""
        return self.reads == "text" or type(self).encode_words is not Encoder.encode_words

    def encode_words(self, words: Sequence[str]) -> NDArray[Any]:
        """Turn words into rows of the same space as those of crops: the nearer by cosine, the better a crop fits them.

        Args:
            words: n texts, each as a person types it into a search field; n may be 0. An encoder may leave out what goes
                beyond the length it can read.

        Returns:
            (n, dim) float32, of any length but 0. They are compared with rows as they are stored, not centred on the pool.

        Raises:
            ValueError: this encoder has no text tower, or what reads the words cannot be loaded; the message says the way
                out, and never the words.
            FloatingPointError: the network gave a value that is not finite.
        """
        if self.reads != "text":
            raise ValueError(
                f"The encoder {self.name!r} has no text tower, so crops cannot be searched by words. Use one that has: hf: and the name "
                "or folder of a CLIP, SigLIP or SigLIP 2 model."
            )
        if not words:
            return np.empty((0, self.dim), dtype=np.float32)
        return self.encode(np.stack([self.prepare_text(text) for text in words])).astype(np.float32)

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
        self._check(crops)
        return self._rows(crops, self._encode_batch)

    def _check(self, crops: NDArray[Any]) -> None:
        expected = (self.crop_size, self.crop_size, 3)
        if crops.ndim != 4 or crops.shape[1:] != expected or crops.dtype != np.uint8:
            raise ValueError(
                f"Encoder {self.name!r} takes crops of shape (n, {expected[0]}, {expected[1]}, 3) and dtype "
                f"uint8, not {crops.shape} {crops.dtype}. Make them with encoder.prepare(image) and np.stack."
            )

    def _checked(self, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        for crops in batches:
            self._check(crops)
            yield crops

    def _rows(
        self, crops: NDArray[Any], encode_batch: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> NDArray[Any]:
        """Encode checked crops, `batch_size` at a time."""
        rows = np.empty((len(crops), self.dim), dtype=self.dtype)
        size = self.batch_size  # the first batch may change it: the network is loaded, a GPU is full
        for start in range(0, len(crops), size):
            # Copied, for torch warns about a crop that is a read-only view of an image or a memory map.
            batch = encode_batch(crops[start : start + size].copy())
            rows[start : start + len(batch)] = self._to_store(batch)
        return rows

    def _to_store(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return a network's output as rows that can be stored."""
        if not np.isfinite(rows).all():
            raise FloatingPointError(
                f"Encoder {self.name!r} gave values that are not finite; its weights are damaged."
            )
        if self.dtype == np.float16:
            rows = np.clip(rows, -65504.0, 65504.0)
        return rows.astype(self.dtype, copy=False)

    def encode_all(self, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Encode batches of prepared crops as they come, none of them empty; the rows of each in its turn.

        An encoder may work on `batches_at_a_time`, and asks for as many before it gives the first one's rows.

        Raises:
            ValueError, FloatingPointError: as `encode`.
        """
        for crops in batches:
            yield self.encode(crops)

    def forward_rate(self, crops: NDArray[Any]) -> float | None:
        """Measure the bare network on crops that lie on a GPU already: crops a second, or None without a GPU."""
        del crops
        return None

    def to_onnx(self) -> bytes:
        """Return the network as an ONNX model: (n, crop_size, crop_size, 3) uint8 -> (n, dim), before `dtype`.

        Where `reads` is `text`, it takes what `prepare_text` returns, (n, m) int32, cut after any number of tokens that has
        all of each text.

        Raises:
            NotExportableError: this encoder cannot be written as ONNX; the message says what can be done.
        """
        raise NotExportableError(
            f"The encoder {self.name!r} cannot be exported: it has no to_onnx. Use one that can (everylabel encoders --switch, or EVERYLABEL_ENCODER for all projects), "
            "such as efficientnet-lite0, or write to_onnx for it."
        )

    def tokenizer(self) -> str | None:
        """Return what `tokenizers.Tokenizer.from_str` makes this encoder's tokenizer of; None where it has none."""
        return None

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
    count = torch.cuda.device_count() if kind == "cuda" else 0
    if kind == "cuda" and (torch.device(device).index or 0) >= count:
        raise ValueError(
            f"Device {device!r} was asked for, but the GPUs here are cuda:0 to cuda:{count - 1}."
        )
    return device
