"""Models of two towers with random weights and tokenizers of their own, saved in a folder as a person would have downloaded them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

SIDE, PATCH = 32, 8
KINDS = ("clip", "siglip", "siglip2")
CORPUS = ["a rusty bolt", "the clean surface of a solar cell", "two cracks and some dirt", "seven black dogs"]


def saved_two_towers(folder: Path, kind: str) -> str:
    """Save a small CLIP, SigLIP or SigLIP 2 (NaFlex), and return the name of its encoder."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    if kind == "siglip2" and not hasattr(transformers, "Siglip2Model"):
        pytest.skip("this version of transformers has no SigLIP 2 yet")
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vocabulary = TOKENIZERS[kind](folder)
    text = {**size, "vocab_size": vocabulary, "max_position_embeddings": 16}
    vision = {**size, "image_size": SIDE, "patch_size": PATCH}
    if kind == "clip":
        text |= {"eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1}
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
        model = transformers.CLIPModel(config)
    elif kind == "siglip":
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
    else:
        text |= {"projection_size": 32}
        vision = {**size, "patch_size": PATCH, "num_patches": (SIDE // PATCH // 2) ** 2}  # to be enlarged
        model = transformers.Siglip2Model(transformers.Siglip2Config(text_config=text, vision_config=vision))
    _tell_apart(model)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[kind]))
    return f"hf:{folder}"


def _tell_apart(model: Any) -> None:
    """Enlarge random weights, which give nearly the same row for all inputs."""
    import torch  # noqa: PLC0415 - takes long to load

    with torch.no_grad():
        for name, values in model.named_parameters():
            if values.ndim > 1 and "logit" not in name:
                values.mul_(6.0 if "embedding" in name else 3.0)


def _clip_tokenizer(folder: Path) -> int:
    """Letters, their forms at the end of a word, and a few pairs, as byte-pair encoding."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    pairs = [("r", "u"), ("s", "t"), ("o", "l"), ("t", "y</w>")]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{one}</w>" for one in letters)]
    tokens += ["".join(pair) for pair in pairs]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(" ".join(pair) for pair in pairs)]) + "\n"
    )
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(tokens)


def _sentencepiece_tokenizer(folder: Path) -> int:
    spm = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=written,
        vocab_size=48,
        hard_vocab_limit=False,
        bos_id=-1,
        eos_id=1,
        unk_id=2,
        pad_id=0,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(written.getvalue())
    config = {"tokenizer_class": "SiglipTokenizer", "model_input_names": ["input_ids"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return 64  # more than there are: those that the tokenizer adds


def _gemma_tokenizer(folder: Path) -> int:
    tokenizers = pytest.importorskip("tokenizers")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", byte_fallback=False))
    made.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    trainer = tokenizers.trainers.BpeTrainer(special_tokens=special, vocab_size=120, show_progress=False)
    made.train_from_iterator(CORPUS, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    made.save(str(folder / "tokenizer.json"))
    names = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk", "mask")}
    config = {"tokenizer_class": "GemmaTokenizer", "padding_side": "right", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return 128


TOKENIZERS = {"clip": _clip_tokenizer, "siglip": _sentencepiece_tokenizer, "siglip2": _gemma_tokenizer}

_HALVES = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
PROCESSORS = {
    "clip": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.48, 0.46, 0.41],
        "image_std": [0.27, 0.26, 0.28],
    },
    "siglip": {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": SIDE, "width": SIDE},
        **_HALVES,
    },
    "siglip2": {
        "image_processor_type": "Siglip2ImageProcessor",
        "max_num_patches": (SIDE // PATCH) ** 2,
        "patch_size": PATCH,
        **_HALVES,
    },
}
