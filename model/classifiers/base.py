"""The contract of what a session trains every round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from model.pool import Rows

if TYPE_CHECKING:
    from typing_extensions import Self


class Classifier(Protocol):
    """Pool rows in, class probabilities out. Classes are names, never positions."""

    classes_: tuple[str, ...]
    """Sorted names of the classes of the last fit; empty before."""
    folds: int
    """How many refits a cross-validation may spend: many where a fit costs milliseconds."""

    def adapt(self, pool: Rows) -> Self:
        """Learn what needs no labels (such as the pool's centre) from a sample of the pool."""

    def fit(self, x: Rows, labels: Sequence[str], sample_weight: NDArray[Any] | None = None) -> Self:
        """Train on (n, ...) rows and their n class names."""

    def predict_proba(self, x: Rows) -> NDArray[Any]:
        """(n, k) float32 probabilities, columns as in `classes_`; every row sums to 1."""

    def features(self, x: Rows) -> NDArray[Any]:
        """(n, d) float32 features of a few rows, also before any fit: what query strategies compare."""

    def fresh(self) -> Classifier:
        """An unfitted copy with the same settings, for cross-validation.

        What `adapt` learned goes with it; what a fit has chosen from labels may only where choosing again
        would cost seconds.
        """

    def state(self) -> dict[str, NDArray[Any]]:
        """What prediction needs, as plain arrays for `np.savez`; nothing pickled."""

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Become the classifier whose `state()` this is."""
