"""The door to any torch module: probabilities and embeddings of crops, a batch at a time.

Crops reach the module as float32, in the layout and range they were given: no scaling, no transposing. The
module is moved to the device, run in eval mode without gradients, and every submodule gets its own mode back.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from everylabel.model.onnx_graph import OPSET, NotExportableError
from everylabel.model.pool import Rows, chunks

Device = str | torch.device


def predict_proba(
    module: torch.nn.Module, crops: Rows, device: Device = "cpu", batch_size: int = 256
) -> NDArray[Any]:
    """Return class probabilities of (n, ...) crops: (n, k) float32, rows sum to 1.

    Uses `module.predict_proba` where there is one, else softmax of the logits `module(crops)` returns. A
    single column, or none, is read as the positive class of two, so k is never below 2.

    Raises:
        ValueError: `predict_proba` leaves 0 … 1, or anything returned is not finite.
    """
    own = getattr(module, "predict_proba", None)
    call: Callable[[torch.Tensor], Any] = own if callable(own) else module

    def probabilities(batch: torch.Tensor) -> NDArray[Any]:
        out = _rows(call(batch), len(batch))
        if not torch.isfinite(out).all():
            raise ValueError(
                f"{type(module).__name__} returned values that are not finite: "
                "check its training and the range of the crops"
            )
        if callable(own):
            if out.min() < -1e-4 or out.max() > 1 + 1e-4:
                raise ValueError(
                    f"{type(module).__name__}.predict_proba returned values outside 0 … 1: "
                    "return probabilities, or drop it and let forward return logits"
                )
            return _two_columns(out).clamp(0, 1).cpu().numpy()
        if out.shape[1] == 1:
            return _two_columns(out.sigmoid()).cpu().numpy()
        return out.softmax(dim=1).cpu().numpy()

    out = _run(module, crops, device, batch_size, probabilities)
    return out / out.sum(axis=1, keepdims=True) if len(out) else out.reshape(0, 2)


class Probabilities(torch.nn.Module):
    """A module whose output is what `predict_proba` makes of another's, unchecked: to be written as ONNX.

    Args:
        module: as `predict_proba` takes it.
        n_classes: how many of its columns are classes.
    """

    def __init__(self, module: torch.nn.Module, n_classes: int) -> None:
        super().__init__()
        self.module = module
        self.n_classes = n_classes

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (n, n_classes) float32 probabilities of (n, d) rows."""
        own = getattr(self.module, "predict_proba", None)
        out = own(rows) if callable(own) else self.module(rows)
        if callable(own):
            found = _two_columns(out).clamp(0, 1)
        else:
            found = _two_columns(out.sigmoid()) if out.shape[1] == 1 else out.softmax(dim=1)
        found = found[:, : self.n_classes]
        return found / found.sum(dim=1, keepdim=True).clamp(min=1e-12)


def embed(
    module: torch.nn.Module, crops: Rows, device: Device = "cpu", batch_size: int = 256
) -> NDArray[Any]:
    """Return embeddings of (n, ...) crops: (n, d) float32.

    Uses `module.features`, else `module.encode`, else the class probabilities. Feature maps (n, c, h, w) are
    averaged over space; other shapes are flattened.
    """
    for name in ("features", "encode"):
        call = getattr(module, name, None)
        if callable(call):
            break
    else:
        return predict_proba(module, crops, device, batch_size)

    def features(batch: torch.Tensor) -> NDArray[Any]:
        out = call(batch)
        if isinstance(out, torch.Tensor) and out.ndim == 4:
            out = out.mean(dim=(2, 3))
        return _rows(out, len(batch)).cpu().numpy()

    out = _run(module, crops, device, batch_size, features)
    return out if len(out) else out.reshape(0, 0)


def to_onnx(
    module: torch.nn.Module, example: torch.Tensor, inside: str, outside: str, *, of_any_length: bool = False
) -> bytes:
    """Return a module as an ONNX model whose first axis is of any length.

    Exported in memory (0.5 s for the default encoder; the newer torch.export route takes 7 s for the same graph).

    Args:
        module: takes one tensor and returns one.
        example: what it takes, two rows or more.
        inside: the name of its input.
        outside: the name of its output.
        of_any_length: the second axis of its input, too, is of any length.

    Raises:
        NotExportableError: it has an operator that cannot be written as ONNX, or is too large for one file.
    """
    model = io.BytesIO()
    with warnings.catch_warnings(), evaluating(module):
        warnings.simplefilter("ignore")  # the exporter talks about its own deprecation and its constants
        try:
            torch.onnx.export(
                module,
                (example,),
                model,  # type: ignore[arg-type]  # a buffer is accepted, whatever the stub says
                dynamo=False,
                input_names=[inside],
                output_names=[outside],
                dynamic_axes={
                    inside: {0: "n", 1: "m"} if of_any_length else {0: "n"},
                    outside: {0: "n"},
                },
                opset_version=OPSET,
            )
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            first_line = (str(error).strip().splitlines() or [""])[0]
            raise NotExportableError(
                f"{type(module).__name__} cannot be written as ONNX by this version of PyTorch: {first_line}"
            ) from error
    return model.getvalue()


def to_tensor(crops: Any, device: Device) -> torch.Tensor:
    """Turn a batch of crops (array, tensor or list of either) into a float32 tensor on the device."""
    if isinstance(crops, (list, tuple)):
        crops = torch.stack([torch.as_tensor(crop) for crop in crops])
    elif not isinstance(crops, torch.Tensor):
        # Copied: torch must not write into a memory map, and warns about arrays that are read-only.
        crops = torch.from_numpy(np.array(crops))
    tensor: torch.Tensor = crops
    return tensor.to(device=device, dtype=torch.float32)


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Set eval mode without gradients; on leaving, each submodule gets its own mode back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def _run(
    module: torch.nn.Module,
    crops: Rows,
    device: Device,
    batch_size: int,
    function: Callable[[torch.Tensor], NDArray[Any]],
) -> NDArray[Any]:
    module.to(device)
    with evaluating(module):
        parts = [function(to_tensor(crops[rows], device)) for rows in chunks(len(crops), batch_size)]
    return np.concatenate(parts) if parts else np.zeros((0,), dtype=np.float32)


def _rows(out: Any, n: int) -> torch.Tensor:
    """Return a module's output as (n, d) float32: never squeezed, so one crop stays one row."""
    tensor = out.detach() if isinstance(out, torch.Tensor) else torch.as_tensor(np.asarray(out))
    if tensor.numel() == 0 or tensor.numel() % n:
        raise ValueError(
            f"the module returned shape {tuple(tensor.shape)} for {n} crops: return one row a crop"
        )
    if tensor.ndim > 0 and tensor.shape[0] != n and n > 1:
        raise ValueError(
            f"the module returned shape {tuple(tensor.shape)} for {n} crops: return one row a crop"
        )
    return tensor.to(torch.float32).reshape(n, -1)


def _two_columns(positive: torch.Tensor) -> torch.Tensor:
    return torch.cat([1 - positive, positive], dim=1) if positive.shape[1] == 1 else positive
