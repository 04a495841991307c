"""Networks on a GPU, as far as a machine without one can tell: batches that fit, and what happens where they do not."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from everylabel.model import encoders
from everylabel.model.encoders import cuda
from everylabel.model.encoders.cuda import BatchedNetwork, batch_within


class Card:
    """A network on a card that holds so many crops at a time; rows are the mean of a crop's pixels."""

    def __init__(self, holds: int) -> None:
        self.holds, self.sizes = holds, []

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        if len(crops) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.sizes.append(len(crops))
        return crops.float().mean(dim=(1, 2))


def crops(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)


def means(crops):
    return crops.astype(np.float32).mean(axis=(1, 2))


def test_a_batch_that_does_not_fit_is_computed_in_halves_and_so_are_those_after_it():
    card = Card(holds=10)
    network = BatchedNetwork(card, "cpu")
    batches = [crops(4, 1), crops(32, 2), crops(32, 3), crops(5, 4)]
    found = list(network.encode_all(batches))
    for rows, batch in zip(found, batches, strict=True):
        np.testing.assert_allclose(rows, means(batch), rtol=1e-5)
    assert card.sizes == [4] + [8] * 8 + [5], "tried once, then known"
    assert network.largest == 8


def test_where_not_one_crop_fits_the_reason_is_told():
    with pytest.raises(torch.OutOfMemoryError):
        BatchedNetwork(Card(holds=0), "cpu").encode(crops(5))


def test_where_not_one_crop_fits_the_cpu_takes_over_for_good_and_in_order():
    card, on_cpu = Card(holds=4), []

    def cpu(some):
        on_cpu.append(len(some))
        return means(some)

    network = BatchedNetwork(card, "cpu", cpu)
    batches = [crops(4, 1), crops(6, 2), crops(5, 3), crops(2, 4)]
    found = []
    for rows in network.encode_all(batches):
        found.append(rows)
        if len(found) == 2:
            card.holds = 0
    for rows, batch in zip(found, batches, strict=True):
        np.testing.assert_allclose(rows, means(batch), rtol=1e-5)
    assert network.largest == 0
    assert on_cpu == [5, 2]


@pytest.mark.parametrize(
    ("says", "full"),
    [
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_that_memory_is_full_is_also_known_from_the_libraries_of_cuda(says, full):
    assert cuda.is_out_of_memory(RuntimeError(says)) is full


def test_another_failure_of_the_network_is_no_lack_of_memory():
    def broken(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("device-side assert triggered")

    with pytest.raises(RuntimeError, match="assert"):
        BatchedNetwork(broken, "cpu").encode(crops(5))


def test_a_batch_is_asked_for_only_when_there_is_room_for_it():
    taken = []

    def batches():
        for i in range(6):
            taken.append(i)
            yield crops(2, i)

    rows = BatchedNetwork(Card(holds=10), "cpu").encode_all(batches())
    next(rows)
    assert len(taken) <= 2, "one that is computed, one that is sent"


@pytest.mark.parametrize(
    ("a_crop", "fixed", "free", "expected"),
    [
        (1_000_000, 0, 100_000_000, 32),  # 50 fit in half of it
        (1_000_000, 40_000_000, 100_000_000, 8),  # 10 do beside what every pass takes
        (1, 0, 10**12, cuda.LARGEST_BATCH),
        (10**9, 0, 100_000_000, 1),
        (0, 0, 10**9, cuda.LARGEST_BATCH),
    ],
)
def test_the_batch_is_what_half_of_the_free_memory_holds(a_crop, fixed, free, expected):
    assert batch_within(lambda n: fixed + n * a_crop, free) == expected


def test_a_card_too_full_for_a_probe_takes_one_crop_at_a_time():
    def full(_: int) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert batch_within(full, 10**9) == 1


@pytest.fixture
def unusable_card(monkeypatch):
    """A card that PyTorch sees and nothing can be put on."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    if torch.backends.cuda.is_built():
        pytest.skip("a card might be usable")


def test_a_card_that_cannot_be_used_leaves_the_work_to_the_cpu_unless_it_was_asked_for(unusable_card):
    prepared = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), dtype=np.uint8)
    encoder = encoders.create("efficientnet-lite0", device="auto")
    assert encoder.device == "cuda"
    rows = encoder.encode(prepared)
    assert encoder.device == "cpu"
    np.testing.assert_array_equal(rows, encoders.create("efficientnet-lite0", device="cpu").encode(prepared))
    with pytest.raises((AssertionError, RuntimeError)):
        encoders.create("efficientnet-lite0", device="cuda").encode(prepared)


def test_more_crops_than_a_card_would_take_at_a_time_all_get_their_rows_on_the_cpu(unusable_card):
    prepared = np.random.default_rng(0).integers(0, 256, (300, 160, 160, 3), dtype=np.uint8)
    encoder = encoders.create("efficientnet-lite0", device="auto")
    assert encoder.batch_size > 8, "that of a card, until the network is loaded"
    rows = encoder.encode(prepared)
    np.testing.assert_array_equal(rows[280:], encoder.encode(prepared[280:]))


def test_a_card_that_is_not_there_is_named(unusable_card):
    assert encoders.create("efficientnet-lite0", device="cuda:0").device == "cuda:0"
    with pytest.raises(ValueError, match="cuda:0 to cuda:0"):
        encoders.create("efficientnet-lite0", device="cuda:1")


def test_all_batches_are_computed_in_one_thread_whichever_asks():
    threads = set()

    def network(crops: torch.Tensor) -> torch.Tensor:
        threads.add(threading.get_ident())
        return crops.float().mean(dim=(1, 2))

    batched = BatchedNetwork(network, "cpu")
    for n in range(3):
        with ThreadPoolExecutor(1) as asking:
            asking.submit(lambda n=n: list(batched.encode_all([crops(4, n), crops(3, n)]))).result()
    batched.encode(crops(2))
    assert len(threads) == 1


def test_batches_are_filled_up_so_that_there_are_few_sizes():
    card = Card(holds=1024)
    network = BatchedNetwork(card, "cpu", few_sizes=True)
    network.largest = 256
    for n in (1, 7, 32, 33, 255, 256):
        np.testing.assert_allclose(network.encode(crops(n, n)), means(crops(n, n)), rtol=1e-5)
    assert card.sizes == [32, 32, 32, 256, 256, 256]


def test_a_batch_that_fits_only_unfilled_makes_no_other_smaller():
    card = Card(holds=256)
    network = BatchedNetwork(card, "cpu", few_sizes=True)
    network.largest = 512
    for n in (40, 1, 256):
        np.testing.assert_allclose(network.encode(crops(n, n)), means(crops(n, n)), rtol=1e-5)
    assert network.largest == 512
    assert card.sizes == [40, 1, 256]
