"""The text tower of a CLIP or SigLIP model: words to rows in the space of its image rows."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from everylabel.model.encoders.hub_errors import first_line

SIGLIP = ("siglip", "siglip2")
"""Models that were trained on lower case padded to the full length at its right, the padding not masked: shorter ones are read wrongly."""
KINDS = ("clip", *SIGLIP)


class TextTower:
    """Reads words with the text half of a model of two towers, loaded with its image half. Safe to share between threads.

    CLIP (Radford et al., 2103.00020) projects both halves into a joint space; SigLIP (Zhai et al., 2303.15343) and SigLIP 2
    (Tschannen et al., 2502.14786) pool into it. The tokenizer is loaded with the first words: from JSON, vocabulary and
    SentencePiece files, so that nothing is unpickled and no code that comes with a model is run.

    Args:
        source: the name or folder of the model, as a person gave it.
        model: the model, as `AutoModel` loads it.
        folder: where its files are, those of its tokenizer, too.
    """

    def __init__(self, source: str, model: Any, folder: str) -> None:
        self._source = source
        self._folder = folder
        self._model = model
        self._lock = threading.Lock()
        self._tokenizer: Any = None

    @staticmethod
    def is_in(model: Any) -> bool:
        """Return whether a model is one of those whose text tower can be read."""
        return model.config.model_type in KINDS and hasattr(model, "get_text_features")

    def encode(self, words: Sequence[str]) -> NDArray[Any]:
        """Turn n texts, at least one, into (n, d) float32 rows; tokens beyond the model's length are left out.

        Raises:
            ValueError: the tokenizer cannot be loaded or cannot read the words, or the device has no memory left.
        """
        tokens = self._tokens([text.lower() for text in words])
        device = next(self._model.parameters()).device
        try:
            with torch.inference_mode():
                output = self._model.get_text_features(
                    **{name: ids.to(device) for name, ids in tokens.items()}
                )
        except RuntimeError as error:
            raise ValueError(
                f"The text tower of hf:{self._source} failed on {device}: {first_line(error)} Try again in a moment."
            ) from error
        rows = output if isinstance(output, torch.Tensor) else output.pooler_output
        found: NDArray[Any] = rows.float().cpu().numpy()
        return found

    def _tokens(self, words: list[str]) -> dict[str, torch.Tensor]:
        config, is_siglip = self._model.config.text_config, self._model.config.model_type in SIGLIP
        tokenizer = self._load_tokenizer()
        try:
            with self._lock:  # truncation and padding are set in the tokenizer itself
                found = tokenizer(
                    words,
                    padding="max_length" if is_siglip else True,
                    truncation=True,
                    max_length=config.max_position_embeddings,
                    return_tensors="pt",
                )
        except (TypeError, ValueError, RuntimeError) as error:  # its message may hold the words
            raise ValueError(
                f"The tokenizer of hf:{self._source} cannot read these words ({type(error).__name__}). Try others; if it reads none, "
                "see that tokenizer_config.json belongs to the model."
            ) from None
        if int(found["input_ids"].max()) >= config.vocab_size:
            raise ValueError(
                f"The tokenizer of hf:{self._source} is another model's: it has tokens that this model has not."
            )
        names = ("input_ids",) if is_siglip else ("input_ids", "attention_mask")
        return {name: found[name] for name in names}

    def _load_tokenizer(self) -> Any:
        from transformers import AutoTokenizer  # noqa: PLC0415  an optional extra

        with self._lock:
            if self._tokenizer is None:
                try:
                    loaded = AutoTokenizer.from_pretrained(
                        self._folder, trust_remote_code=False, padding_side="right", local_files_only=True
                    )
                    if {*loaded.get_vocab()} <= {*loaded.all_special_tokens}:
                        raise ValueError("There is no vocabulary.")  # and transformers made up an empty one
                    self._tokenizer = loaded
                except Exception as error:  # whatever a damaged file makes the tokenizer's libraries raise
                    raise ValueError(
                        f"Cannot load the tokenizer of hf:{self._source}, so crops cannot be searched by words: "
                        f"{first_line(error)} Beside the model belong tokenizer.json (or vocab.json and merges.txt, or "
                        "spiece.model) and tokenizer_config.json; spiece.model needs pip install 'everylabel[hf]'."
                    ) from error
            return self._tokenizer
