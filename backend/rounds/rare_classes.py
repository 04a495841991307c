"""Classes with one label or none: what cannot be said of them, and what was done to find more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

CERTAIN = 0.95


@dataclass(frozen=True)
class RareClasses:
    """The classes of the labeling config that hardly anything is known of."""

    single: tuple[str, ...]
    """With one label: a label error cannot be found there, and nothing is pre-filled with them."""
    missing: tuple[str, ...]
    """Without a label."""
    n_labels: int
    """Labels so far; most of them are of crops chosen for being unlike those labelled before."""
    n_blind: int
    """How many of them are of check crops, drawn at random."""

    @property
    def share_below(self) -> float | None:
        """The share of the pool that a missing class is below with 95 % certainty; None without a check label.

        A class of that share would have come up among as many crops drawn at random, 19 times of 20.
        """
        return None if not self.n_blind else 1 - (1 - CERTAIN) ** (1 / self.n_blind)


def rare_classes(
    labels: Mapping[int, str],
    classes: Sequence[str],
    names: Callable[[str], Collection[str]],
    check_tasks: Collection[int],
) -> RareClasses:
    """Count the labels of each class.

    Args:
        labels: the label of each task.
        classes: those the labeling config has.
        names: the classes of a label; several where several may hold.
        check_tasks: tasks drawn for the check set.
    """
    counts = Counter(name for label in labels.values() for name in names(label))
    return RareClasses(
        single=tuple(name for name in classes if counts[name] == 1),
        missing=tuple(name for name in classes if not counts[name]),
        n_labels=len(labels),
        n_blind=len(labels.keys() & {*check_tasks}),
    )


def single_in_words(rare: RareClasses) -> str:
    """Say which classes have one label, and what follows."""
    return f"{', '.join(rare.single)}: no label error can be found there, and nothing is pre-filled with them"


def missing_in_words(rare: RareClasses) -> str:
    """Say which classes have no label, and what was done to find them."""
    tried = f"{', '.join(rare.missing)}: none in {rare.n_labels} labels"
    if rare.share_below is not None:
        tried += (
            f", {rare.n_blind} of them of crops drawn at random, so each is less than {rare.share_below:.0%} of the crops "
            "(95 %)"
        )
    return f"{tried}; the others were chosen to be unlike what is labelled. Look for them on the page's map"
