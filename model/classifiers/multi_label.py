"""Several classes on one crop: one linear head a class, on the same embeddings.

A label is a set of classes, written `crack + dirt` (`model/label_set.py`), and the rest of the core sees sets
alone. The heads say how probable each class is; a set's probability is the product over the classes, shared
out among the known sets (binary relevance; Read et al. 2011, "Classifier chains", is its better-known kin).
Known sets are those people gave, those that pseudo-labelled crops are predicted to have, and those the heads see on
a sample of the pool, so that an unseen one can be found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from everylabel.model import label_set
from everylabel.model.classifiers.base import Classifier, require_labelled_rows
from everylabel.model.classifiers.calibration import (
    add_averaged_sigmoid,
    averaged_softmax,
    posterior_scales,
)
from everylabel.model.classifiers.embedding import NOT_FINITE, TUNING_ROWS, choose_penalty
from everylabel.model.classifiers.embedding_space import EmbeddingSpace
from everylabel.model.classifiers.ridge import fit_ridge
from everylabel.model.pool import Rows, chunks, gather, spread
from everylabel.model.threads import single_threaded

if TYPE_CHECKING:
    from typing_extensions import Self

    from everylabel.model.onnx_graph import Graph

SAMPLE = 500
"""Pool rows that are asked which sets there are besides those people gave."""
MOST_UNSEEN = 64


class MultiLabelClassifier(Classifier):
    """One ridge head a class on centred, length-1 embeddings, calibrated as `EmbeddingClassifier` is.

    `classes_` are label sets, and probabilities are of whole sets: a crop's confidence is that of everything
    said about it. A class that every labelled crop has, or none, stays at the share it was seen at.

    Args:
        space: how embeddings are compared: that of the encoder's own classifier.
        seed: picks the rows that penalty and scale are chosen by, where there are very many.
    """

    folds = 5
    several = True
    space: EmbeddingSpace

    def __init__(self, *, space: EmbeddingSpace | None = None, seed: int = 0) -> None:
        self.seed = seed
        self.names_: tuple[str, ...] = ()
        """The single classes of the last fit, sorted; the columns of `marginals`."""
        self.space = EmbeddingSpace() if space is None else space
        self._sample: NDArray[Any] | None = None
        self._weights: NDArray[Any] = np.zeros((0, 0, 2), dtype=np.float32)
        self._bias: NDArray[Any] = np.zeros((0, 2), dtype=np.float32)
        self._scales: NDArray[Any] = np.ones((0, 3), dtype=np.float32)

    def adapt(self, pool: Rows) -> Self:
        """Take the pool's centre, and a sample of it in which sets can be found."""
        self.space.adapt(pool)
        if len(pool):
            self._sample = np.asarray(gather(pool, spread(len(pool), SAMPLE)))
        return self

    def fit(self, x: Rows, labels: Sequence[str], sample_weight: NDArray[Any] | None = None) -> Self:
        """Fit on (n, d) embeddings and n label sets.

        Weights are (n,), or (n, k) with a column for each single class, sorted. Rows that weigh less than the heaviest are
        taken for pseudo-labels, as in `EmbeddingClassifier`, and those that weigh 0 say nothing of a class.

        Raises:
            ValueError: there are no rows, rows and labels differ in number, or an embedding is not finite.
        """
        require_labelled_rows(x, labels)
        if not self.space.has_centre:
            self.space.centre_on(x)
        rows = self.space.features(x)
        if not np.isfinite(rows).all():
            raise ValueError(NOT_FINITE)
        sets = [label_set.split(label) for label in labels]
        self.names_ = tuple(sorted({name for names in sets for name in names}))
        held = _holds(sets, self.names_)
        weight = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        weights = np.broadcast_to(weight.reshape(len(labels), -1), held.shape)
        with single_threaded():
            heads = [
                self._fit_head(rows if used.all() else rows[used], held[used, column], weights[used, column])
                for column, used in enumerate((weights > 0).T)
            ]
        self._weights, self._bias, self._scales = (
            np.stack([head[part] for head in heads]).astype(np.float32) for part in range(3)
        )
        seen = {label_set.join(names) for names in sets}
        unseen = self._unseen(seen) if len(seen) > 1 else set()
        self.classes_ = tuple(sorted(seen | unseen))
        return self

    def calibrate_classes(self, ahead: NDArray[Any], labels: Sequence[str]) -> Self:
        """Fit the stated confidence of each class anew to (n, k) scores; one without scores stays as it is."""
        held = _holds([label_set.split(label) for label in labels], self.names_)
        for column in np.flatnonzero(np.isfinite(ahead).all(axis=0)):
            scores = np.stack([np.zeros(len(ahead)), ahead[:, column]], axis=1)
            self._scales[column] = posterior_scales(scores, held[:, column].astype(np.intp), 2)
        return self

    def marginals(self, x: Rows) -> NDArray[Any]:
        """Return how probable each class is by itself: (n, len(names_)) float32."""
        # All heads at once: the pool is read one time, however many classes there are.
        scores = self.space.scores(x, np.hstack(list(self._weights)), self._bias.reshape(-1))
        found = np.empty((len(x), len(self.names_)), dtype=np.float32)
        for column in range(len(self.names_)):
            two = scores[:, 2 * column : 2 * column + 2]
            found[:, column] = averaged_softmax(two, self._scales[column])[:, 1]
        return found

    def predict_proba(self, x: Rows) -> NDArray[Any]:
        """Return (n, k) float32 probabilities of the sets in `classes_`; every row sums to 1."""
        self._require_fit()
        marginals = self.marginals(x)
        held = self._held()
        probabilities = np.empty((len(x), len(self.classes_)), dtype=np.float32)
        for part in chunks(len(x)):
            chance = np.clip(marginals[part].astype(np.float64), 1e-6, 1 - 1e-6)
            log_p = np.log(chance) @ held.T + np.log1p(-chance) @ ~held.T
            probabilities[part] = softmax(log_p, axis=1)
        return probabilities

    def add_to_graph(self, graph: Graph, rows: str, dim: int) -> str:
        """Add the heads, their calibration and the shares of the sets to an ONNX graph."""
        del dim  # the head knows it
        self._require_fit()
        scores = self.space.add_to_graph(graph, rows, np.hstack(list(self._weights)), self._bias.reshape(-1))
        columns = np.arange(len(self.names_))
        without, held = (
            graph.add("Gather", scores, graph.constant(2 * columns + part, "int64"), axis=1)
            for part in (0, 1)
        )
        marginals = add_averaged_sigmoid(graph, graph.add("Sub", held, without), self._scales)
        ends = (graph.constant(end, "float64") for end in (1e-6, 1 - 1e-6))
        chance = graph.add("Clip", graph.cast(marginals, "float64"), *ends)
        unlikely = graph.add("Sub", graph.constant(1.0, "float64"), chance)
        terms = [
            graph.add("MatMul", graph.add("Log", share), graph.constant(which.T, "float64"))
            for share, which in ((chance, self._held()), (unlikely, ~self._held()))
        ]
        return graph.cast(graph.add("Softmax", graph.add("Add", *terms), axis=1), "float32")

    def features(self, x: Rows) -> NDArray[Any]:
        """Return (n, d) float32 embeddings, centred and of length 1."""
        return self.space.features(x)

    def classes_in(self, label: str) -> tuple[str, ...]:
        """Return the classes of a label set, sorted."""
        return label_set.split(label)

    def fresh(self) -> Self:
        """Return an unfitted copy that keeps the centre and the sample."""
        copy = type(self)(space=self.space.copy(), seed=self.seed)
        copy._sample = self._sample
        return copy

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays `classes`, `names`, `centre`, `column_scale`, `weights`, `bias`, `scales`."""
        return {
            "classes": np.asarray(self.classes_, dtype=str),
            "names": np.asarray(self.names_, dtype=str),
            **self.space.state(),
            "weights": self._weights,
            "bias": self._bias,
            "scales": self._scales,
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Predict as the classifier did whose state this is."""
        self.classes_ = tuple(str(label) for label in state["classes"])
        self.names_ = tuple(str(name) for name in state["names"])
        self.space.load_state(state)
        self._weights, self._bias, self._scales = state["weights"], state["bias"], state["scales"]
        return self

    def _held(self) -> NDArray[Any]:
        """Return which single classes each known set has: (len(classes_), len(names_)) bool."""
        return _holds([label_set.split(label) for label in self.classes_], self.names_)

    def _fit_head(
        self, rows: NDArray[Any], held: NDArray[Any], weight: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        codes = held.astype(np.intp)
        if held.all() or not held.any():
            share = (weight[held].sum() + 1) / (weight.sum() + 2)
            return np.zeros((rows.shape[1], 2)), np.log([1 - share, share]), np.ones(3)
        known = np.flatnonzero(weight >= weight.max() * (1 - 1e-9))
        if len(np.unique(codes[known])) < 2:
            known = np.arange(len(codes))
        if len(known) > TUNING_ROWS:
            known = np.sort(np.random.default_rng(self.seed).permutation(known)[:TUNING_ROWS])
        penalty, loo = choose_penalty(rows[known], codes[known], 2, None)
        scales = posterior_scales(loo, codes[known], 2)
        # Not balanced: a class's share is what its probability is read from, and errors of many heads add up.
        weights, bias = fit_ridge(rows, codes, 2, weight=weight, penalty=penalty)
        return weights, bias, scales

    def _unseen(self, seen: set[str]) -> set[str]:
        """Return the most frequent sets that the heads see on the sample and nobody has given."""
        if self._sample is None:
            return set()
        likely = self.marginals(self._sample) > 0.5
        found = Counter(
            label_set.join(np.asarray(self.names_)[row].tolist()) for row in likely[likely.any(axis=1)]
        )
        return {label for label, _ in found.most_common(MOST_UNSEEN + len(seen)) if label not in seen}


def _holds(sets: Sequence[Sequence[str]], names: Sequence[str]) -> NDArray[Any]:
    """Return which classes each set has: (len(sets), len(names)) bool."""
    return np.asarray([[name in held for name in names] for held in sets], dtype=bool)
