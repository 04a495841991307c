"""Words and crops of models of two towers on a real CUDA card: the rows of the CPU, also while it embeds, and once it is given up."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from everylabel.model import encoders
from everylabel.model.encoders import Encoder
from tests.two_towers import KINDS, SIDE, saved_two_towers

if not torch.cuda.is_available():
    pytest.skip("PyTorch sees no CUDA card: these run the text towers on a real one", allow_module_level=True)
WORDS = ["a rusty bolt", "dirt", "two cracks " * 20]
CROPS = np.random.default_rng(0).integers(0, 256, (300, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, Encoder]:
    """The encoder on the CPU and on the card."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    name = saved_two_towers(folder, request.param)
    return encoders.create(name, device="cpu"), encoders.create(name, device="cuda")


def cosines(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    a, b = rows.astype(np.float64), others.astype(np.float64)
    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def test_the_card_has_the_rows_of_the_cpu(both: tuple[Encoder, Encoder]) -> None:
    cpu, card = both
    assert cosines(cpu.encode_words(WORDS), card.encode_words(WORDS)).min() > 0.9999
    assert cosines(cpu.encode(CROPS), card.encode(CROPS)).min() > 0.999, "in half precision"


def test_words_are_read_while_crops_are_embedded(both: tuple[Encoder, Encoder]) -> None:
    cpu, card = both
    wanted = cpu.encode_words(WORDS)
    done = threading.Event()

    def embed() -> None:
        for _ in range(30):
            card.encode(CROPS)
        done.set()

    embedding = threading.Thread(target=embed)
    embedding.start()
    asked = 0
    while not done.is_set() or not asked:
        assert cosines(card.encode_words(WORDS), wanted).min() > 0.9999
        asked += 1
    embedding.join()


def test_words_are_read_on_the_cpu_once_the_card_is_full(both: tuple[Encoder, Encoder]) -> None:
    cpu, _ = both
    given_up = encoders.create(cpu.name, device="auto")
    assert given_up.device == "cuda"
    given_up._on_cpu_from_now_on(CROPS[:3])
    assert given_up.device == "cpu"
    np.testing.assert_allclose(given_up.encode_words(WORDS), cpu.encode_words(WORDS), atol=1e-4)
