"""Words in the space of images: as transformers' own models of two towers have them, with random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everylabel.model import encoders
from everylabel.model.encoders import Encoder
from everylabel.model.testing import EncoderContract
from tests.contract.test_encoders import saved_vit
from tests.two_towers import KINDS, SIDE, saved_two_towers

WORDS = ["a rusty bolt", "The Clean surface, of a solar cell", "dirt", "two cracks " * 20, "ü 漢 😀"]


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp(request.param)
    saved_two_towers(made, request.param)
    return made


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return encoders.create(f"hf:{folder}", device="cpu")


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)


class TestTwoTowers(EncoderContract):
    pass


def as_transformers_has_them(folder: Path, crops: np.ndarray, words: list[str]) -> tuple[np.ndarray, ...]:
    """Return the image and the text embeddings of the whole model, called as its documentation says."""
    import torch  # noqa: PLC0415
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer  # noqa: PLC0415

    model = AutoModel.from_pretrained(folder).eval()
    pictures = AutoImageProcessor.from_pretrained(folder)(
        [Image.fromarray(crop) for crop in crops], return_tensors="pt"
    )
    kind = model.config.model_type
    lower = [text.lower() for text in words]
    padding = True if kind == "clip" else "max_length"
    tokens = AutoTokenizer.from_pretrained(folder)(
        lower, padding=padding, max_length=16, truncation=True, return_tensors="pt"
    )
    if kind != "clip":  # trained on padded texts, the padding not masked
        tokens.pop("attention_mask", None)
    with torch.no_grad():
        found = model(**pictures, **tokens)
    return found.image_embeds.numpy(), found.text_embeds.numpy()


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_words_and_crops_lie_where_transformers_has_them(
    folder: Path, encoder: Encoder, crops: np.ndarray
) -> None:
    images, texts = as_transformers_has_them(folder, crops, WORDS)
    rows, found = encoder.encode(crops), encoder.encode_words(WORDS)
    assert encoder.has_text_tower
    assert (found.shape, found.dtype) == ((len(WORDS), encoder.dim), np.float32)
    np.testing.assert_allclose(unit(rows), images, atol=1e-3)
    np.testing.assert_allclose(unit(found), texts, atol=1e-3)
    cosines = unit(rows) @ unit(found).T
    np.testing.assert_allclose(cosines, images @ texts.T, atol=1e-3)
    assert np.ptp(cosines, axis=1).min() > 0.02, "the test tells words apart"


def test_words_give_the_same_row_whatever_stands_beside_them(encoder: Encoder) -> None:
    together = encoder.encode_words(WORDS)
    for i, text in enumerate(WORDS):
        np.testing.assert_allclose(encoder.encode_words([text])[0], together[i], atol=1e-4)
    np.testing.assert_allclose(encoder.encode_words(["A RUSTY Bolt"])[0], together[0], atol=1e-4)
    assert encoder.encode_words([]).shape == (0, encoder.dim)


def test_a_model_whose_tokenizer_is_missing_embeds_crops_and_says_what_is_missing(
    folder: Path, crops: np.ndarray, tmp_path: Path
) -> None:
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        shutil.copy(folder / name, tmp_path)
    without = encoders.create(f"hf:{tmp_path}", device="cpu")
    assert without.encode(crops).shape == (6, without.dim)
    with pytest.raises(ValueError, match=r"tokenizer\.json") as refused:
        without.encode_words(["a secret wish"])
    assert "secret" not in str(refused.value)


def test_words_that_no_tokenizer_reads_are_refused_and_not_repeated(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="cannot read these words") as refused:
        encoder.encode_words(["secret \ud800"])  # half a character
    assert "secret" not in str(refused.value)


def test_the_tokenizer_of_another_model_is_refused(
    folder: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder._model.config.text_config, "vocab_size", 4)
    with pytest.raises(ValueError, match="is another model's"):
        encoder.encode_words(["a rusty bolt"])


def test_code_beside_a_tokenizer_is_not_run(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    ran = tmp_path / "ran"
    (tmp_path / "model" / "tokenization.py").write_text(f"open({str(ran)!r}, 'w')")
    (tmp_path / "model" / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["tokenization.Own", null]}}'
    )
    encoder = encoders.create(f"hf:{tmp_path / 'model'}", device="cpu")
    try:
        encoder.encode_words(["a rusty bolt"])
    except ValueError as refused:
        assert "okenizer" in str(refused)
    assert not ran.exists()


def test_an_encoder_without_a_text_tower_says_which_have_one(tmp_path: Path) -> None:
    for name in ("direct-cnn", saved_vit(tmp_path)):
        encoder = encoders.create(name, device="cpu")
        assert not encoder.has_text_tower
        with pytest.raises(ValueError, match=r"no text tower.*CLIP, SigLIP or SigLIP 2"):
            encoder.encode_words(["a rusty bolt"])


def test_texts_are_searched_by_words_too() -> None:
    encoder = encoders.create(encoders.DEFAULT_TEXT, device="cpu")
    texts = ["The bolt is rusty and worn.", "A dog sleeps in the sun.", "The invoice was paid twice."]
    rows = encoder.encode(np.stack([encoder.prepare_text(text) for text in texts]))
    assert encoder.has_text_tower
    found = encoder.encode_words(["corrosion", "a sleeping animal", "payments"])
    assert found.dtype == np.float32
    assert (unit(found) @ unit(rows).T).argmax(axis=1).tolist() == [0, 1, 2]
