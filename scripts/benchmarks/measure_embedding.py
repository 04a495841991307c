"""Measure how fast crops are embedded: the whole pipeline from JPEG files on disk, beside the encoder alone."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from everylabel.backend.embedding.pipeline import SMALLEST_BATCH, CropEmbedder
from everylabel.backend.embedding.reading_process import processes_for
from everylabel.backend.images.decode import decode
from everylabel.backend.images.decoding_limits import ImageLimits
from everylabel.backend.store import Store, Task
from everylabel.backend.store.files import ProjectFiles
from everylabel.model import encoders
from everylabel.model.cores import usable_cores
from everylabel.model.encoders import Encoder
from everylabel.scripts.benchmarks.file_reader import FileReader
from everylabel.scripts.benchmarks.machine import Watch
from everylabel.scripts.checked_settings import load_settings

BASES = 48
"""Pictures made from noise; the others are these, shifted and turned."""
QUALITY = 90
STARTING_SECONDS = 60.0
"""The longest to wait until the processes that prepare crops can be used."""
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EmbeddingSpeed:
    """Crops a second of one encoder, run by run.

    The runs of a pair follow one another, so that both meet the machine in the same state.
    """

    encoder: str
    device: str
    crops: int
    picture: str
    """Size of the pictures: `256 x 256`, or the range of a folder's."""
    bare: tuple[float, ...]
    """The encoder alone, one batch after the other, on the same crops prepared and in memory."""
    at_most: tuple[float, ...]
    """The encoder alone as the pipeline uses it, with several batches at a time: what no pipeline can pass."""
    pipeline: tuple[float, ...]
    """From the files to rows on disk that the store points at."""
    processor_ms: tuple[float, ...]
    """Milliseconds of all cores together that a crop takes in each of the three, median; other work on the machine
    leaves them as they are."""
    batch_size: int
    forward: tuple[float, ...] = ()
    """On a GPU, the bare network on a batch that lies there already; on a CPU nothing."""

    @property
    def ratios(self) -> list[float]:
        """The pipeline's rate as a share of the encoder's own, run by run."""
        return [whole / alone for whole, alone in zip(self.pipeline, self.bare, strict=True)]

    @property
    def ratios_at_most(self) -> list[float]:
        """The pipeline's rate as a share of the highest it could reach, run by run."""
        return [whole / alone for whole, alone in zip(self.pipeline, self.at_most, strict=True)]

    @property
    def ratios_forward(self) -> list[float]:
        """The pipeline's rate as a share of the bare network's on a GPU, run by run."""
        return [whole / alone for whole, alone in zip(self.pipeline, self.forward, strict=False)]


def measure(
    encoder: str,
    device: str,
    *,
    crops: int = 2000,
    pixels: int = 256,
    runs: int = 5,
    seconds: float = 120.0,
    folder: Path | None = None,
    report: Report = lambda *_: None,
) -> EmbeddingSpeed:
    """Measure pairs of runs until there are `runs` of them, or until another would end after `seconds`.

    Args:
        encoder: an encoder's name.
        device: as `encoders.create` takes it.
        crops: crops to embed in each run.
        pixels: width and height of the synthetic pictures.
        runs: maximum number of pairs.
        seconds: maximum duration.
        folder: JPEG files of your own to use instead of synthetic pictures.
        report: called with (what, done, total).

    Returns:
        The speeds of every run; identical crops are counted once.

    Raises:
        ValueError: an unknown encoder or device, or a folder without enough JPEG files.
    """
    made = encoders.create(encoder, device=device)
    with tempfile.TemporaryDirectory(prefix="everylabel-") as scratch:
        paths = _files(folder, crops) if folder else make_files(Path(scratch), crops, pixels, report)
        paths, prepared = _in_memory(paths, made)
        _warm_up(made, prepared)
        processes = processes_for(made, load_settings().download_threads)
        if processes is not None:
            with processes:
                processes.wait(STARTING_SECONDS)
        ways: tuple[Callable[[], _Passed], ...] = (
            lambda: _one_after_the_other(made, prepared),
            lambda: _several_at_a_time(made, prepared),
            lambda: _embed(made, paths, Path(scratch)),
        )
        measured = _measure_runs(ways, made, prepared, runs, seconds, report)
        size = f"{pixels} x {pixels}" if folder is None else _sizes(paths)
    bare, at_most, pipeline = (tuple(rates) for rates in measured.rates)
    return EmbeddingSpeed(
        encoder,
        getattr(made, "device", "cpu"),
        len(paths),
        size,
        bare,
        at_most,
        pipeline,
        tuple(statistics.median(times) for times in measured.milliseconds),
        made.batch_size,
        tuple(measured.forward),
    )


@dataclass(frozen=True)
class _Runs:
    """The runs of several ways to embed the same crops."""

    rates: tuple[list[float], ...]
    """Crops a second, by way and run."""
    milliseconds: tuple[list[float], ...]
    """Milliseconds of all cores together that a crop takes, by way and run."""
    forward: list[float]
    """Crops a second of the bare network, by run; empty where it cannot be measured alone."""


def _measure_runs(
    ways: Sequence[Callable[[], _Passed]],
    encoder: Encoder,
    prepared: NDArray[np.uint8],
    runs: int,
    seconds: float,
    report: Report,
) -> _Runs:
    """Measure every way once a run, until there are `runs` or another would end after `seconds`."""
    found = _Runs(tuple([] for _ in ways), tuple([] for _ in ways), [])
    begun = time.monotonic()
    for run in range(runs):
        report("Embedding", run, runs)
        for rates, times, way in zip(found.rates, found.milliseconds, ways, strict=True):
            passed = way()
            rates.append(len(prepared) / passed.seconds)
            times.append(1e3 * passed.processor_seconds / len(prepared))
        if (alone := encoder.forward_rate(prepared)) is not None:
            found.forward.append(alone)
        if (time.monotonic() - begun) * (run + 2) / (run + 1) > seconds:
            break
    return found


def as_json(*given: Any, **more: Any) -> dict[str, Any]:
    """Return the result of `measure` as JSON takes it, with its medians and the machine."""
    watch = Watch()
    found = measure(*given, **more)
    return {
        **asdict(found),
        "unit": "crops a second, run by run; ratios are the pipeline's rate over the other's in the same run",
        "ratio": statistics.median(found.ratios),
        "ratios": found.ratios,
        "ratio_at_most": statistics.median(found.ratios_at_most),
        "ratios_at_most": found.ratios_at_most,
        "ratios_forward": found.ratios_forward,
        "device_name": device_name(found.device),
        "machine": asdict(watch.machine()),
    }


def device_name(device: str) -> str:
    """Return a GPU's own name, or the number of cores of a CPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(torch.device(device))
    return f"{usable_cores()} CPU cores"


class _Stopwatch:
    """A stopwatch of wall-clock and processor time, started when it is made."""

    def __init__(self) -> None:
        self._seconds, self._processor_seconds = time.perf_counter(), time.process_time()

    def passed(self) -> _Passed:
        return _Passed(time.perf_counter() - self._seconds, time.process_time() - self._processor_seconds)


@dataclass(frozen=True)
class _Passed:
    seconds: float
    processor_seconds: float
    """Of all cores together."""


def _warm_up(encoder: Encoder, prepared: NDArray[np.uint8]) -> None:
    """Have the encoder load its weights and take its memory before the first run is timed."""
    encoder.encode(prepared[:64])
    list(encoder.encode_all([prepared[:64]]))


def _batches(encoder: Encoder, prepared: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    size = max(encoder.batch_size, SMALLEST_BATCH)
    return (prepared[start : start + size] for start in range(0, len(prepared), size))


def _one_after_the_other(encoder: Encoder, prepared: NDArray[np.uint8]) -> _Passed:
    watch = _Stopwatch()
    for batch in _batches(encoder, prepared):
        encoder.encode(batch)
    return watch.passed()


def _several_at_a_time(encoder: Encoder, prepared: NDArray[np.uint8]) -> _Passed:
    watch = _Stopwatch()
    for _ in encoder.encode_all(_batches(encoder, prepared)):
        pass
    return watch.passed()


def _embed(encoder: Encoder, paths: Sequence[Path], scratch: Path) -> _Passed:
    """Measure the time until the store points at every row; the tasks are listed beforehand."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        store = Store(f"sqlite:///{folder}/everylabel.db")
        reader = FileReader()
        try:
            store.save_project(1)
            store.save_tasks(1, [Task(i, str(path)) for i, path in enumerate(paths, 1)])
            file = ProjectFiles(Path(folder), 1).embeddings(encoder.signature, encoder.dim, encoder.dtype)
            threads = load_settings().download_threads
            processes = processes_for(encoder, threads)
            watch = _Stopwatch()
            embedder = CropEmbedder(store, reader, encoder, threads, processes=processes)
            found = embedder.embed(1, store.tasks_to_embed(1), file)
            passed = watch.passed()
            if found.embedded != len(paths):
                raise ValueError(
                    f"{len(paths) - found.embedded} of {len(paths)} files could not be embedded."
                )
            return passed
        finally:
            reader.close()
            store.close()


def _in_memory(paths: Sequence[Path], encoder: Encoder) -> tuple[list[Path], NDArray[np.uint8]]:
    """Prepare the crops; of identical ones, which a pipeline encodes once, keep one."""

    def prepare(path: Path) -> NDArray[np.uint8]:
        return encoder.prepare(
            decode(path.read_bytes(), ImageLimits(), path.name, enough=encoder.enough_pixels)
        )

    found: dict[bytes, tuple[Path, NDArray[np.uint8]]] = {}
    with ThreadPoolExecutor(usable_cores()) as pool:
        for path, crop in zip(paths, pool.map(prepare, paths), strict=True):
            found.setdefault(blake2b(crop.data, digest_size=16).digest(), (path, crop))
    return [path for path, _ in found.values()], np.stack([crop for _, crop in found.values()])


def _files(folder: Path, crops: int) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:crops]
    if len(found) < 64:
        raise ValueError(f"{folder} holds {len(found)} JPEG files; 64 or more are needed.")
    return found


def _sizes(paths: Sequence[Path]) -> str:
    sizes = []
    for path in paths:
        with Image.open(path) as image:
            sizes.append(max(image.size))
    return f"{min(sizes)} to {max(sizes)}"


def make_files(folder: Path, crops: int, pixels: int, report: Report) -> list[Path]:
    """Write JPEG files with the spectrum of photographs: noise of every scale, the coarser the stronger."""
    rng = np.random.default_rng(0)
    bases = [_noise(rng, pixels) for _ in range(min(BASES, crops))]
    variants = [(i, rng.integers(0, pixels, 2), int(rng.integers(4))) for i in range(crops)]

    def make(variant: tuple[int, NDArray[np.int64], int]) -> Path:
        i, shift, turns = variant
        picture = np.rot90(np.roll(bases[i % len(bases)], shift, axis=(0, 1)), turns)
        path = folder / f"{i:06d}.jpg"
        Image.fromarray(np.ascontiguousarray(picture)).save(path, quality=QUALITY)
        if i % 100 == 0:
            report("Making pictures", i, crops)
        return path

    with ThreadPoolExecutor(usable_cores()) as pool:
        paths = list(pool.map(make, variants))
    report("Making pictures", crops, crops)
    return paths


def _noise(rng: np.random.Generator, pixels: int) -> NDArray[np.uint8]:
    total = np.zeros((pixels, pixels, 3), dtype=np.float32)
    cells = 2
    while cells <= pixels:
        grid = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        smooth = np.asarray(grid.resize((pixels, pixels), Image.Resampling.BICUBIC), dtype=np.float32)
        total += (smooth - 127.5) * (2.0 / cells) ** 0.7
        cells *= 2
    return np.clip(total + 127.5, 0, 255).astype(np.uint8)
