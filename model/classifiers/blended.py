"""A classifier that answers together with one of an earlier project, each with a share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.classifiers.base import Classifier
from everylabel.model.pool import Rows

if TYPE_CHECKING:
    from typing_extensions import Self

    from everylabel.model.onnx_graph import Graph

PREFIX = "earlier."
SHARE = "earlier.share"


class BlendedClassifier(Classifier):
    """Mixes the probabilities of a classifier with those of an earlier one that is not trained any more.

    Classes are those of both; one that a side does not know is improbable to it. Which share is right,
    `everylabel.model.earlier_model` says. Confidence is not calibrated by replays of labelling, so `closed_form` is False.

    Args:
        own: trained on the project's labels.
        earlier: of an earlier project, on rows of the same encoder.
        share: what the earlier one's probabilities weigh, above 0 and below 1.
    """

    def __init__(self, own: Classifier, earlier: Classifier, share: float) -> None:
        self.own = own
        self.earlier = earlier
        self.share = share
        self.folds = own.folds
        self.space = own.space
        self.classes_ = union(own.classes_, earlier.classes_)

    def adapt(self, pool: Rows) -> Self:
        """Have the project's own classifier learn what needs no labels."""
        self.own.adapt(pool)
        return self

    def fit(self, x: Rows, labels: Sequence[str], sample_weight: NDArray[Any] | None = None) -> Self:
        """Train the project's own classifier; the earlier one and its share stay.

        Raises:
            ValueError: as the own classifier's `fit`.
        """
        self.own.fit(x, labels, sample_weight)
        self.classes_ = union(self.own.classes_, self.earlier.classes_)
        return self

    def predict_proba(self, x: Rows) -> NDArray[Any]:
        """Return (n, k) float32 mixed probabilities."""
        if not self.own.classes_:
            return self.earlier.predict_proba(x)
        return self.mixed(self.own.predict_proba(x), self.earlier.predict_proba(x))

    def mixed(self, own: NDArray[Any], earlier: NDArray[Any]) -> NDArray[Any]:
        """Mix (n, k1) probabilities of the own classifier and (n, k2) of the earlier one: (n, k) float32."""
        found = np.zeros((len(own), len(self.classes_)), dtype=np.float32)
        column = {name: place for place, name in enumerate(self.classes_)}
        for source, names, share in (
            (own, self.own.classes_, 1 - self.share),
            (earlier, self.earlier.classes_, self.share),
        ):
            for place, name in enumerate(names):
                found[:, column[name]] += np.float32(share) * source[:, place]
        return found

    def features(self, x: Rows) -> NDArray[Any]:
        """Return the features of the project's own classifier."""
        return self.own.features(x)

    def classes_in(self, label: str) -> tuple[str, ...]:
        """Return the single classes that a label stands for."""
        return self.own.classes_in(label)

    @property
    def head(self) -> Classifier:
        """The part that the project's own labels trained."""
        return self.own

    def fresh(self) -> Self:
        """Return a copy whose own classifier is unfitted."""
        return type(self)(self.own.fresh(), self.earlier, self.share)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the own classifier, those of the earlier one under names of their own, and the share."""
        earlier = {PREFIX + name: array for name, array in self.earlier.state().items()}
        return {**self.own.state(), **earlier, SHARE: np.asarray(self.share)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Become the classifier whose `state()` this is."""
        self.own.load_state(state)
        self.earlier.load_state(
            {
                name.removeprefix(PREFIX): array
                for name, array in state.items()
                if name.startswith(PREFIX) and name != SHARE
            }
        )
        self.share = float(state[SHARE])
        self.classes_ = union(self.own.classes_, self.earlier.classes_)
        return self

    def add_to_graph(self, graph: Graph, rows: str, dim: int) -> str:
        """Add both classifiers to an ONNX graph, and the mixture of what they say."""
        parts = []
        for classifier, share in ((self.own, 1 - self.share), (self.earlier, self.share)):
            found = classifier.add_to_graph(graph, rows, dim)
            # Their columns, as this one's, times the share.
            moved = share * np.asarray(
                [[name == wanted for wanted in self.classes_] for name in classifier.classes_]
            )
            parts.append(graph.add("MatMul", found, graph.constant(moved, "float32")))
        return graph.add("Add", *parts)


def union(*classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classes of several classifiers, each once, sorted."""
    return tuple(sorted({name for names in classes for name in names}))


def with_state(untrained: Classifier, state: Mapping[str, NDArray[Any]]) -> Classifier:
    """Return the trained classifier whose state this is: of one project alone, or with a share of an earlier one's.

    Args:
        untrained: the project's classifier.
        state: as `state` of it, or of a `BlendedClassifier` around it, gave it.
    """
    if SHARE not in state:
        return untrained.load_state(state)
    return BlendedClassifier(untrained, untrained.fresh(), float(state[SHARE])).load_state(state)
