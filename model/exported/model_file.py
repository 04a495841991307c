"""Run an exported model with ONNX Runtime, numpy and Pillow alone: no torch is loaded here."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from everylabel.model.encoders.shrink import fitted, shrink

FORMAT = "1"
"""The version of the metadata that is read."""
AT_ONCE = 8
"""Pictures of one size that go through the network together: on a CPU their feature maps stay in the caches."""
FEWEST_TOKENS = 16
ENOUGH = 2
"""A picture of so many times the crop's size loses nothing that the network would see."""


class ModelFileError(ValueError):
    """A file is no exported model, or cannot be read; the message says what to do."""


@dataclass(frozen=True)
class CropPredictions:
    """The predictions of a model for n crops."""

    probabilities: NDArray[Any]
    """(n, k) float32, columns as in the model's `classes`."""
    novelty: NDArray[Any] | None
    """(n,) float32, above 1 for crops unlike all of the pool; None where the model has no measure of it."""


TOKENIZER = ".tokenizer.json"
"""The end of the name of the file beside a model of texts that holds its tokenizer."""


class ExportedModel:
    """A model that `everylabel export` wrote.

    Args:
        path: the ONNX file.
        threads: CPU threads; None takes one a core.

    Raises:
        ModelFileError: it cannot be read, or was not written by `everylabel export`.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelFileError(
                f"{path} cannot be read ({error.strerror}). Write a model with: everylabel export --project N -o {path}"
            ) from error
        self.digest = hashlib.sha256(content).hexdigest()
        """The SHA-256 of the file, as its card gives it."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Threads that spin between runs take the cores from those that decode the next pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has an error of its own for everything
            raise ModelFileError(
                f"{path} is no ONNX model, or damaged: {str(error).splitlines()[0]} Export it again."
            ) from error
        told = self._session.get_modelmeta().custom_metadata_map
        if told.get("everylabel_format") != FORMAT:
            raise ModelFileError(
                f"{path} was not written by this version of `everylabel export`. Export the model again, with: "
                f"everylabel export --project N -o {path}"
            )
        self.classes: tuple[str, ...] = tuple(json.loads(told["classes"]))
        self.crop_size = int(told["crop_size"])
        self.reads = told.get("reads", "image")
        """`image` or `text`."""
        self._tokenizer = _tokenizer(path) if self.reads == "text" else None
        self._input = self._session.get_inputs()[0].name
        self.has_novelty = len(self._session.get_outputs()) > 1

    @property
    def enough_pixels(self) -> int:
        """How many pixels of a picture's longer side make a difference."""
        return ENOUGH * self.crop_size

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the (h, w, 3) uint8 pixels of an upright RGB image, as the model takes them: a huge one smaller."""
        return np.asarray(shrink(image, *fitted(image, self.crop_size)))

    def prepare_text(self, text: str) -> NDArray[np.int32]:
        """Return the (m,) int32 tokens of a text, filled up with 0 to a power of two.

        Raises:
            ValueError: this is a model of images.
        """
        if self._tokenizer is None:
            raise ValueError("This is a model of images: use prepare.")
        tokens = self._tokenizer.encode(text).ids
        padded = np.zeros(max(FEWEST_TOKENS, 1 << (len(tokens) - 1).bit_length()), dtype=np.int32)
        padded[: len(tokens)] = tokens
        return padded

    def predict(self, pictures: Sequence[NDArray[Any]]) -> CropPredictions:
        """Predict prepared pictures or texts of any sizes; those of one size go through the network together."""
        probabilities = np.empty((len(pictures), len(self.classes)), dtype=np.float32)
        novelty = np.empty(len(pictures), dtype=np.float32) if self.has_novelty else None
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, picture in enumerate(pictures):
            alike[picture.shape].append(place)
        for places in alike.values():
            for start in range(0, len(places), AT_ONCE):
                part = places[start : start + AT_ONCE]
                found = self._session.run(None, {self._input: np.stack([pictures[place] for place in part])})
                probabilities[part] = found[0]
                if novelty is not None:
                    novelty[part] = found[1]
        return CropPredictions(probabilities, novelty)


def _tokenizer(path: Path) -> Any:
    """Return the tokenizer beside a model of texts."""
    beside = path.with_suffix(TOKENIZER)
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415 - for texts alone

        return Tokenizer.from_file(str(beside))
    except ImportError as error:
        raise ModelFileError(
            f"{path} is a model of texts, which needs the package tokenizers: pip install tokenizers"
        ) from error
    except Exception as error:  # an error of its own for everything
        raise ModelFileError(
            f"{path} is a model of texts, and {beside.name}, which `everylabel export` wrote beside it, cannot be read: {error}. "
            "Put both in one folder."
        ) from error
