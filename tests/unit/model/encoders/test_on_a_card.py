"""Encoders on a real CUDA card: the contract, the rows and choices of the CPU, and what happens once it is full."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from everylabel.model import encoders
from everylabel.model.encoders import Encoder, cuda
from everylabel.model.session import ActiveLearningSession
from everylabel.model.testing import EncoderContract

if not torch.cuda.is_available():
    pytest.skip("PyTorch sees no CUDA card: these run the encoders on a real one", allow_module_level=True)
DEFAULT = "efficientnet-lite0"


@pytest.fixture(scope="module", params=encoders.names())
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return encoders.create(request.param, device="cuda")


class TestEveryEncoderOnACard(EncoderContract):
    pass


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[Any], list[str]]:
    """600 digits as the default encoder takes them, with their classes."""
    found = load_digits()
    prepare = encoders.create(DEFAULT, device="cpu").prepare
    images = [
        Image.fromarray((pixels * 15.9).astype(np.uint8)).resize((96, 96)) for pixels in found.images[:600]
    ]
    return np.stack([prepare(image) for image in images]), [str(label) for label in found.target[:600]]


@pytest.fixture(scope="module")
def on_cpu(digits) -> NDArray[Any]:
    return encoders.create(DEFAULT, device="cpu").encode(digits[0])


@pytest.fixture
def fill_card() -> Iterator[Callable[[int], None]]:
    """Takes the card's memory but for about so many bytes; given back after the test."""
    held: list[torch.Tensor] = []

    def fill(left: int) -> None:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        piece = 1 << 30
        while piece >= 1 << 9:
            free = torch.cuda.mem_get_info()[0]
            if left and free - piece < left:
                piece //= 2
                if piece < 1 << 21:
                    return
                continue
            try:
                held.append(torch.empty(piece, dtype=torch.uint8, device="cuda"))
            except torch.OutOfMemoryError:
                piece //= 2

    yield fill
    held.clear()
    torch.cuda.empty_cache()


def close(rows: NDArray[Any], others: NDArray[Any]) -> bool:
    """Return whether every row is its counterpart, but for the last bits that two processors round otherwise."""
    a, b = rows.astype(np.float64), others.astype(np.float64)
    cosine = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return bool(cosine.min() > 0.999999)


def test_the_rows_are_those_of_the_cpu(digits, on_cpu):
    encoder = encoders.create(DEFAULT, device="cuda")
    rows = encoder.encode(digits[0])
    assert encoder.device == "cuda"
    assert encoder.batch_size > 8, "measured to fit the card"
    assert close(rows, on_cpu)
    assert encoder.forward_rate(digits[0]) > 0


def test_on_a_card_that_fills_up_batches_are_halved_and_rows_stay_as_they_were(digits, on_cpu, fill_card):
    encoder = encoders.create(DEFAULT, device="cuda")
    encoder.encode(digits[0][:8])
    fitting = encoder.batch_size
    large = np.concatenate([digits[0], digits[0]])[:fitting]
    fill_card(200 << 20)
    found = list(encoder.encode_all([large, digits[0]]))
    assert 1 <= encoder._gpu.largest < fitting
    assert encoder.device == "cuda"
    assert close(
        np.concatenate(found), np.concatenate([np.concatenate([on_cpu, on_cpu])[: len(large)], on_cpu])
    )


def test_the_cpu_takes_over_from_a_card_that_is_full_in_the_middle_of_the_work(digits, on_cpu, fill_card):
    encoder = encoders.create(DEFAULT, device="auto")
    crops = digits[0]

    def batches():
        yield crops[:64]
        yield crops[64:128]
        fill_card(0)
        yield crops[128:400]
        yield crops[400:]

    rows = list(encoder.encode_all(batches()))
    assert encoder.device == "cpu"
    assert [len(some) for some in rows] == [64, 64, 272, 200]
    assert close(np.concatenate(rows), on_cpu)
    np.testing.assert_array_equal(np.concatenate(rows)[400:], on_cpu[400:])
    np.testing.assert_array_equal(encoder.encode(crops), on_cpu)


def test_a_full_card_that_was_asked_for_by_name_is_an_error(digits, fill_card):
    encoder = encoders.create(DEFAULT, device="cuda")
    encoder.encode(digits[0][:8])
    fill_card(0)
    with pytest.raises(RuntimeError) as raised:
        encoder.encode(digits[0])
    assert cuda.is_out_of_memory(raised.value)


def test_a_session_chooses_the_same_crops(digits, on_cpu):
    """Both see the labels that the CPU's asks for, so that one crop chosen otherwise does not change all that come."""
    encoder = encoders.create(DEFAULT, device="cuda")
    pools = {"cpu": on_cpu, "cuda": encoder.encode(digits[0])}
    sessions = {
        name: ActiveLearningSession(rows, classifier=encoder.make_classifier(), seed=0)
        for name, rows in pools.items()
    }
    same = asked = 0
    for _ in range(12):
        chosen = {name: session.run_round(audit=False) for name, session in sessions.items()}
        crops = [*chosen["cpu"].check, *chosen["cpu"].batch]
        assert chosen["cuda"].check == chosen["cpu"].check
        same += len({*chosen["cuda"].batch} & {*chosen["cpu"].batch})
        asked += len(chosen["cpu"].batch)
        for session in sessions.values():
            session.add_labels(crops, [digits[1][crop] for crop in crops])
    assert same >= 0.97 * asked, f"{same} of {asked}"
