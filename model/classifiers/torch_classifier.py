"""A torch module as the classifier of a session: trained anew on the labels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from everylabel.model.classifiers.base import Classifier, require_labelled_rows
from everylabel.model.classifiers.class_weights import balanced
from everylabel.model.onnx_graph import NotExportableError
from everylabel.model.pool import Rows, chunks, spread
from everylabel.model.torch_module import Device, Probabilities, embed, predict_proba, to_onnx, to_tensor
from everylabel.model.vectors import flat_rows, unit_rows

if TYPE_CHECKING:
    from typing_extensions import Self

    from everylabel.model.onnx_graph import Graph

RAW_DIM = 256


class TorchClassifier(Classifier):
    """Trains the module `module_factory(n_classes)` makes; every fit starts from a new one.

    Rows reach the module as float32 batches of the pool's own row shape (uint8 pixels as 0 … 255): layout and
    scaling belong to its `forward`, which returns (n, n_classes) logits, or (n, 1) for two classes. Three
    optional methods:

    - `loss(rows, codes, weights) -> scalar`: replaces the weighted cross-entropy of the logits in training;
    - `set_support(rows, codes)`: called once after training with all training rows, for few-shot modules;
      what it keeps must be registered buffers, so that `state()` carries it;
    - `predict_proba`, `features`, `encode`: read as in `everylabel.model.torch_module`.

    Classes weigh the same, whatever their counts. With one known class nothing is trained and every
    probability is 1.
    """

    folds = 3

    def __init__(
        self,
        module_factory: Callable[[int], nn.Module],
        *,
        epochs: int = 40,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 32,
        device: Device = "cpu",
        seed: int = 0,
    ) -> None:
        self.module_factory = module_factory
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.device = device
        self.seed = seed
        self.module: nn.Module | None = None
        self._centre: NDArray[Any] | None = None

    @classmethod
    def around(cls, module: nn.Module, *, device: Device = "cpu", seed: int = 0) -> Self:
        """Use copies of a module: its weights are where every fit starts, and it is itself never changed.

        A module with more outputs than classes known uses the first ones; one logit serves two classes.
        """
        return cls(lambda _: copy.deepcopy(module), device=device, seed=seed)

    def adapt(self, pool: Rows) -> Self:
        """Take the mean row, from at most 500, as the centre of the features used before the first fit."""
        if len(pool):
            self._centre = flat_rows(pool[spread(len(pool), 500)]).mean(axis=0)
        return self

    def fit(self, x: Rows, labels: Sequence[str], sample_weight: NDArray[Any] | None = None) -> Self:
        """Train a new module on (n, ...) rows; the seed decides its weights and the order of batches.

        Raises:
            ValueError: there are no rows, lengths differ, or the module has too few outputs for the classes.
        """
        require_labelled_rows(x, labels)
        names, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        self.classes_ = tuple(str(name) for name in names)
        self.module = None
        if len(names) == 1:
            return self
        weight = np.ones(len(codes)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        weight = balanced(codes, weight)
        # The global generator is put back: training must not change what the caller samples next.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.module = self._train(x, codes, weight, len(names))
        return self

    def predict_proba(self, x: Rows) -> NDArray[Any]:
        """Return (n, k) float32 probabilities; a batch of rows is on the device at a time."""
        self._require_fit()
        if self.module is None:
            return np.ones((len(x), 1), dtype=np.float32)
        probabilities = predict_proba(self.module, x, self.device)[:, : len(self.classes_)]
        total = probabilities.sum(axis=1, keepdims=True)
        return np.asarray(probabilities / np.maximum(total, 1e-12), dtype=np.float32)

    def add_to_graph(self, graph: Graph, rows: str, dim: int) -> str:
        """Add the trained module to an ONNX graph.

        Raises:
            NotExportableError: fewer than two classes are known, or the module has no form in ONNX.
        """
        self._require_fit()
        if self.module is None:
            raise NotExportableError(
                "A model of one class has nothing to export: label crops of two classes."
            )
        module = Probabilities(copy.deepcopy(self.module).cpu(), len(self.classes_))
        return graph.embed(to_onnx(module, torch.zeros(2, dim), "rows", "probabilities"), rows)[0]

    def features(self, x: Rows) -> NDArray[Any]:
        """Return (n, d) float32 features of length 1: the module's own, or before a fit a random projection of the rows."""
        rows = self._raw_features(x) if self.module is None else embed(self.module, x, self.device)
        return unit_rows(rows)

    def fresh(self) -> Self:
        """Return an unfitted copy with the same settings."""
        made = type(self)(
            self.module_factory,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            device=self.device,
            seed=self.seed,
        )
        made._centre = self._centre
        return made

    def state(self) -> dict[str, NDArray[Any]]:
        """Return `classes`, and the module's parameters and buffers under `module.<name>`."""
        self._require_fit()
        state = {"classes": np.asarray(self.classes_, dtype=str)}
        if self.module is not None:
            for name, tensor in self.module.state_dict().items():
                state[f"module.{name}"] = tensor.detach().cpu().numpy()
        return state

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Predict as the classifier did whose state this is; the module factory must be the same."""
        self.classes_ = tuple(str(name) for name in state["classes"])
        tensors = {
            name.removeprefix("module."): torch.from_numpy(np.array(value))
            for name, value in state.items()
            if name.startswith("module.")
        }
        self.module = None
        if tensors:
            module = self.module_factory(len(self.classes_))
            _resize_buffers(module, tensors)
            module.load_state_dict(tensors)
            self.module = module.to(self.device)
        return self

    def _train(self, x: Rows, codes: NDArray[Any], weight: NDArray[Any], n_classes: int) -> nn.Module:
        module = self.module_factory(n_classes).to(self.device)
        targets = torch.from_numpy(codes.astype(np.int64)).to(self.device)
        weights = torch.from_numpy(weight.astype(np.float32)).to(self.device)
        own = getattr(module, "loss", None)
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if parameters:
            optimiser = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)
            rng = np.random.default_rng(self.seed)
            module.train()
            for _ in range(self.epochs):
                for rows in _batches(rng.permutation(len(codes)), self.batch_size):
                    batch, target, weighing = to_tensor(x[rows], self.device), targets[rows], weights[rows]
                    if callable(own):
                        loss = own(batch, target, weighing)
                    else:
                        loss = _cross_entropy(module(batch), target, weighing, n_classes)
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
        module.eval()
        support = getattr(module, "set_support", None)
        if callable(support):
            with torch.no_grad():
                support(to_tensor(x[np.arange(len(codes))], self.device), targets)
        return module

    def _raw_features(self, x: Rows) -> NDArray[Any]:
        parts = []
        projection: NDArray[Any] | None = None
        for rows in chunks(len(x), 256):
            flat = flat_rows(x[rows])
            if self._centre is not None:
                flat = flat - self._centre
            if flat.shape[1] > RAW_DIM:
                if projection is None:
                    rng = np.random.default_rng(0)
                    projection = rng.standard_normal((flat.shape[1], RAW_DIM), dtype=np.float32)
                flat = flat @ projection
            parts.append(flat)
        return np.concatenate(parts) if parts else np.zeros((0, RAW_DIM), dtype=np.float32)


def _batches(order: NDArray[Any], size: int) -> list[NDArray[Any]]:
    """Split an order into batches of nearly equal length.

    Batch normalisation cannot train on a last batch of one row.
    """
    return np.array_split(order, max(1, -(-len(order) // size)))


def _cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor, n_classes: int
) -> torch.Tensor:
    logits = logits.reshape(len(target), -1)
    if logits.shape[1] == 1 and n_classes == 2:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    if logits.shape[1] < n_classes:
        raise ValueError(
            f"the module has {logits.shape[1]} outputs for {n_classes} classes: "
            "give it one output for each class of the project"
        )
    losses = nn.functional.cross_entropy(logits[:, :n_classes], target, reduction="none")
    return (losses * weights).sum() / weights.sum()


def _resize_buffers(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give buffers whose size depends on the training rows (a support set) the size they are about to get."""
    for name, buffer in list(module.named_buffers()):
        if name in tensors and buffer.shape != tensors[name].shape:
            owner, _, attribute = name.rpartition(".")
            module.get_submodule(owner).register_buffer(attribute, torch.zeros_like(tensors[name]))
