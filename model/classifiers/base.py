"""The contract of a classifier: what a session trains every round, and all that others may ask of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from everylabel.model.classifiers.embedding_space import EmbeddingSpace
from everylabel.model.onnx_graph import NotExportableError
from everylabel.model.pool import Rows

if TYPE_CHECKING:
    from typing_extensions import Self

    from everylabel.model.onnx_graph import Graph


class Classifier(ABC):
    """Turns pool rows into class probabilities. Classes are names, never positions.

    To add a classifier, subclass this, write the abstract methods, and return it from an encoder's
    `make_classifier`. Nothing outside asks which class it is: what one can do beyond fitting and predicting it
    says by `closed_form`, `space`, `several` and `classes_in`.
    """

    classes_: tuple[str, ...] = ()
    """Sorted names of the classes of the last fit; empty before."""
    folds: int = 5
    """How many refits a cross-validation may spend: many where a fit costs milliseconds."""
    closed_form: bool = False
    """Whether a fit is one linear solve for all classes, on features that no label changes.

    Labels can then be left out one at a time without a refit, crops keep their neighbours from round to round,
    any part of the pool can be scored by itself, and `calibrate` can be called.
    """
    space: EmbeddingSpace | None = None
    """How rows are compared before any label; None where features are learned from the labels."""
    several: bool = False
    """Whether a label is a set of classes, each with a head of its own, on features that no label changes.

    `fit` then takes (n, k) weights too, a column for each single class, sorted, and `calibrate_classes` can be called.
    """

    @abstractmethod
    def adapt(self, pool: Rows) -> Self:
        """Learn what needs no labels (such as the pool's centre) from a sample of the pool."""

    @abstractmethod
    def fit(self, x: Rows, labels: Sequence[str], sample_weight: NDArray[Any] | None = None) -> Self:
        """Train on (n, ...) rows and their n class names.

        Raises:
            ValueError: there are no rows, or rows and labels differ in number.
        """

    @abstractmethod
    def predict_proba(self, x: Rows) -> NDArray[Any]:
        """Return (n, k) float32 probabilities, columns as in `classes_`; every row sums to 1.

        Raises:
            RuntimeError: nothing has been fitted or loaded.
        """

    @abstractmethod
    def features(self, x: Rows) -> NDArray[Any]:
        """Return (n, d) float32 features of a few rows, also before any fit: what query strategies compare."""

    @abstractmethod
    def fresh(self) -> Self:
        """Return an unfitted copy with the same settings, for cross-validation.

        What `adapt` learned goes with it; what a fit has chosen from labels may only where choosing again
        would cost seconds.
        """

    @abstractmethod
    def state(self) -> dict[str, NDArray[Any]]:
        """Return what prediction needs, as plain arrays for `np.savez`; nothing pickled.

        Raises:
            RuntimeError: nothing has been fitted or loaded.
        """

    @abstractmethod
    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Become the classifier whose `state()` this is."""

    def calibrate(self, scores: NDArray[Any], labels: Sequence[str]) -> Self:
        """Fit the stated confidence to (n, k) scores of n labels that had no part in them.

        Raises:
            NotImplementedError: `closed_form` is False.
        """
        raise NotImplementedError(f"{type(self).__name__} is not fitted in closed form: it calibrates itself")

    def calibrate_classes(self, ahead: NDArray[Any], labels: Sequence[str]) -> Self:
        """Fit the stated confidence of each class to scores of labels that had no part in them.

        Args:
            ahead: (n, k) by how much each single class, sorted, is more probable than not, in the scores of its head; a
                column of NaN leaves a class as it is.
            labels: their n label sets.

        Raises:
            NotImplementedError: `several` is False.
        """
        raise NotImplementedError(f"{type(self).__name__} has no head for each class: it calibrates itself")

    def unrestated(self, probabilities: NDArray[Any]) -> NDArray[Any]:
        """Return (n, k) probabilities of `predict_proba` as query strategies are to see them.

        What people read is how often a prediction is right, learned from replays of labelling. Strategies made those
        labels, so they go on seeing what they saw then: otherwise the statement would change what it rests on.
        """
        return probabilities

    def classes_in(self, label: str) -> tuple[str, ...]:
        """Return the single classes that a label stands for: itself, unless labels are sets of classes."""
        return (label,)

    @property
    def head(self) -> Classifier:
        """The part that the project's own labels trained: itself, unless it answers together with an earlier one."""
        return self

    def add_to_graph(self, graph: Graph, rows: str, dim: int) -> str:
        """Add the arithmetic of `predict_proba` to an ONNX graph.

        Args:
            graph: the graph to add to.
            rows: the (n, dim) float32 rows in it.
            dim: the length of a row.

        Returns:
            The name of the (n, k) float32 probabilities.

        Raises:
            NotExportableError: this classifier cannot be written as ONNX.
            RuntimeError: nothing has been fitted or loaded.
        """
        raise NotExportableError(f"{type(self).__name__} cannot be written as ONNX: it has no add_to_graph.")

    def _require_fit(self) -> None:
        if not self.classes_:
            raise RuntimeError("this classifier has not been fitted: call fit, or load_state, first")


def require_labelled_rows(x: Rows, labels: Sequence[str]) -> None:
    """Check that there is one label a row, and at least one.

    Raises:
        ValueError: there are no rows, or rows and labels differ in number.
    """
    if len(labels) == 0 or len(x) != len(labels):
        raise ValueError(
            f"fit needs one label a row and at least one: got {len(x)} rows, {len(labels)} labels"
        )
