"""A frozen network on a GPU: half precision where it may, channels last, transfers beside the computing, batches that fit.

Everything here also runs on a CPU, in full precision and without streams; that is how it is tested.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

log = logging.getLogger(__name__)

LARGEST_BATCH = 1024
PROBES = (8, 32)
"""Crops of the two passes whose memory tells what a crop takes."""
SHARE = 0.5
"""Share of a GPU's free memory that a batch may take: transfers run ahead, and others may want some."""

_MEMORY_IS_FULL = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_INITIALIZED",
)
"""What a `RuntimeError` says where it is not PyTorch's own allocator that finds no memory, but CUDA or a library of it."""

Network = Callable[[torch.Tensor], torch.Tensor]
Rows = Callable[[NDArray[np.uint8]], NDArray[Any]]


@dataclass
class _Running:
    """A batch that is being computed: its rows are in `result` once `done` is."""

    result: torch.Tensor
    done: Any
    count: int | None = None
    """How many of the rows were asked for, if not all."""

    def rows(self) -> NDArray[Any]:
        if self.done is not None:
            self.done.synchronize()
        rows: NDArray[Any] = self.result.numpy()[: self.count]
        return rows


class BatchedNetwork:
    """Runs a frozen network over batches of crops.

    Args:
        network: (n, h, w, 3) uint8 on the device -> (n, d) of any float dtype.
        device: `cpu`, `cuda` or `cuda:<number>`.
        half: compute in half precision on a GPU. Otherwise in full float32, TF32 turned off for the process, so that
            rows are those of the CPU but for the last bits.
        on_cpu: computes the rows of crops where the GPU has no memory left for a single one; it is also told so by
            being called. None has the error raised.

        few_sizes: fill batches up to one of two sizes, for networks of convolutions: cuDNN plans each of them anew for every size.

    A batch that does not fit in memory is computed in halves, and so is every one after it. All batches are computed in one
    thread: PyTorch keeps cuDNN's plans for each thread by itself, and to plan the default encoder's convolutions took 12 s on an
    H200.
    """

    def __init__(
        self,
        network: Network,
        device: str,
        on_cpu: Rows | None = None,
        *,
        half: bool = True,
        few_sizes: bool = False,
    ) -> None:
        self._network = network
        self._few_sizes = few_sizes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gpu")
        self._half = half
        if not half:
            torch.backends.cudnn.allow_tf32 = False
        self._rows_on_cpu = on_cpu
        self._device = torch.device(device)
        self._on_gpu = self._device.type == "cuda"
        self._transfers = (
            torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            if self._on_gpu
            else None
        )
        self.largest = LARGEST_BATCH
        """Crops computed at a time: halved where they did not fit, and 0 once the CPU has taken over."""

    def encode(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        """Encode a few crops: (n, h, w, 3) uint8 to (n, d) float32."""
        return next(self.encode_all([crops]))

    def encode_all(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[Any]]:
        """Encode batch after batch. While one is computed the next is sent and the last one's rows come back."""
        running: deque[_Running] = deque()
        for crops in batches:
            started = self._try(crops) if len(crops) <= self.largest else None
            if started is not None:
                running.append(started)
            while len(running) > (1 if started is not None else 0):
                yield running.popleft().rows()
            if started is None:
                yield self._in_pieces(crops)
        while running:
            yield running.popleft().rows()

    def fitting_batch(self, crop_size: int) -> int:
        """Measure, by two small passes, the batch size that fits the GPU's free memory.

        Sets `largest`, too.
        """
        if self._on_gpu:
            few = np.zeros((PROBES[0], crop_size, crop_size, 3), dtype=np.uint8)
            self._try(few)  # what is loaded once is no part of a crop's share
            free = torch.cuda.mem_get_info(self._device)[0]
            self.largest = batch_within(lambda n: self._peak_bytes(n, crop_size), free)
            log.info("%s takes batches of %d crops", torch.cuda.get_device_name(self._device), self.largest)
        return self.largest

    def forward_rate(self, crops: NDArray[np.uint8], seconds: float = 1.0) -> float:
        """Measure the bare network: a batch of `largest` that lies on the device already, over and over.

        Args:
            crops: (n, h, w, 3) uint8, n at least 1; repeated where they are fewer than a batch.
            seconds: how long, about.

        Returns:
            Crops a second, the rows left on the device.
        """
        return self._thread.submit(self._forward_rate, crops, seconds).result()

    def _forward_rate(self, crops: NDArray[np.uint8], seconds: float) -> float:
        with torch.inference_mode(), self._precision():
            batch = torch.from_numpy(np.resize(crops, (self.largest, *crops.shape[1:]))).to(self._device)
            passes, passed = 1, 0.0
            self._network(batch)  # what is set up once is no part of it
            while passed < seconds:
                self._wait()
                begun = time.perf_counter()
                for _ in range(passes):
                    self._network(batch)
                self._wait()
                passed = time.perf_counter() - begun
                rate = passes * len(batch) / passed
                passes = max(2 * passes, int(1.1 * seconds * rate / len(batch)))
            return rate

    def _wait(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize(self._device)

    def _start(self, crops: NDArray[np.uint8]) -> _Running:
        """Start a batch; its size is filled up with black crops."""
        size = self._filled(len(crops))
        if size > len(crops):
            filled = np.zeros((size, *crops.shape[1:]), dtype=crops.dtype)
            filled[: len(crops)] = crops
            started = self._if_it_fits(self._compute, filled)
            if started is not None:
                return replace(started, count=len(crops))
            # Others use the card too: from now on no batch is larger than it has to be.
            self._few_sizes = False
        return self._compute(crops)

    def _filled(self, n: int) -> int:
        if not self._few_sizes or n >= self.largest:
            return n
        return min(PROBES[1], self.largest) if n <= PROBES[1] else self.largest

    def _compute(self, crops: NDArray[np.uint8]) -> _Running:
        return self._thread.submit(self._compute_here, crops).result()

    def _compute_here(self, crops: NDArray[np.uint8]) -> _Running:
        with torch.inference_mode(), self._precision():
            if self._transfers is None:
                return _Running(self._network(torch.from_numpy(crops)).float(), None)
            with torch.cuda.device(self._device):
                computing = torch.cuda.current_stream()
                with torch.cuda.stream(self._transfers):
                    sent = torch.from_numpy(crops).pin_memory().to(self._device, non_blocking=True)
                computing.wait_stream(self._transfers)
                sent.record_stream(computing)  # its memory is not given away before it was read
                rows = self._network(sent).float()
                result = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
                result.copy_(rows, non_blocking=True)
                done = torch.cuda.Event()  # type: ignore[no-untyped-call]
                done.record(computing)
                return _Running(result, done)

    def _in_pieces(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        """Compute a batch that did not fit, by ever smaller pieces, and in the end on the CPU."""
        rows: list[NDArray[Any]] = []
        done = 0
        while done < len(crops) and self.largest > 0:
            some = crops[done : done + self.largest]
            is_last_try = self.largest == 1 and self._rows_on_cpu is None
            started = self._start(some) if is_last_try else self._try(some)
            if started is not None:
                rows.append(started.rows())
                done += len(some)
            elif self.largest > 1:
                self.largest = max(1, len(some) // 2)
                log.warning(
                    "%s is out of memory: batches of %d crops from now on", self._device, self.largest
                )
            else:
                self.largest = 0
                log.warning("%s has no memory for a single crop: embedding on the CPU", self._device)
        if done < len(crops):
            assert self._rows_on_cpu is not None  # noqa: S101 - without it the last try has raised
            rows.append(self._rows_on_cpu(crops[done:]))
        return np.concatenate(rows)

    def _try(self, crops: NDArray[np.uint8]) -> _Running | None:
        """Start a batch; None where it does not fit in memory."""
        return self._if_it_fits(self._start, crops)

    def _if_it_fits(
        self, start: Callable[[NDArray[np.uint8]], _Running], crops: NDArray[np.uint8]
    ) -> _Running | None:
        try:
            return start(crops)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # What the failed pass holds was let go with the exception; now the cache can be emptied.
        if self._on_gpu:
            with suppress(RuntimeError):  # on a card so full, this fails too
                torch.cuda.empty_cache()
        return None

    def _peak_bytes(self, n: int, crop_size: int) -> int:
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        self._compute(np.zeros((n, crop_size, crop_size, 3), dtype=np.uint8)).rows()
        return int(torch.cuda.max_memory_allocated(self._device)) - before

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast("cuda", dtype=torch.float16) if self._on_gpu and self._half else nullcontext()


def place(network: nn.Module, device: str, *, fall_back: bool) -> tuple[nn.Module, str]:
    """Put a network on its device, channels last on a GPU; returns it with the device it is on.

    With `fall_back`, a GPU that is there and cannot be used (its memory full, its driver broken) leaves it on the CPU.
    """
    if torch.device(device).type == "cpu":
        return network, device
    try:
        placed = network.to(torch.device(device))
        return placed.to(memory_format=torch.channels_last), device  # type: ignore[call-overload]
    except (RuntimeError, AssertionError) as error:  # PyTorch asserts that it was built with CUDA
        return give_up(network, error, fall_back=fall_back)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error of PyTorch says that the GPU's memory is full.

    Its own allocator raises `OutOfMemoryError`; CUDA, cuBLAS and cuDNN, which take memory of their own, do not.
    """
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _MEMORY_IS_FULL)


def give_up(network: nn.Module, error: Exception, *, fall_back: bool) -> tuple[nn.Module, str]:
    """Take a network back to the CPU from a GPU that cannot be used, for the reason of `error`.

    Raises:
        Exception: `error` itself, without `fall_back`.
    """
    if not fall_back:
        raise error
    why = str(error).split("\n", maxsplit=1)[0]
    log.warning("The GPU cannot be used (%s): embedding on the CPU", why)
    return network.cpu(), "cpu"


def batch_within(peak_bytes: Callable[[int], int], free: int) -> int:
    """Return the largest power of two of crops whose pass takes at most `SHARE` of `free` bytes, up to `LARGEST_BATCH`."""
    few, many = PROBES
    try:
        first, second = peak_bytes(few), peak_bytes(many)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return 1
    a_crop = max(1.0, (second - first) / (many - few))
    fixed = max(0.0, first - few * a_crop)
    fitting = max(1, int((SHARE * free - fixed) / a_crop))
    return min(LARGEST_BATCH, 1 << (fitting.bit_length() - 1))
