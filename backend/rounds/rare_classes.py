"""Classes with one label or none: the limits of what is known of them, and the search for more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

CERTAIN = 0.95


@dataclass(frozen=True)
class RareClasses:
    """The classes of the labeling config with one label or none."""

    single: tuple[str, ...]
    """Classes with one label: label errors cannot be found in them, and nothing is pre-filled with them."""
    missing: tuple[str, ...]
    """Classes without a label."""
    n_labels: int
    """The number of labels; most are of crops chosen because they differ from those labelled before."""
    n_blind: int
    """How many of them are of check crops, sampled at random."""

    @property
    def share_below(self) -> float | None:
        """Return an upper bound, with 95 % confidence, on a missing class's share of the pool; None without a check label.

        A class of that share would have appeared among as many crops sampled at random, 19 times out of 20.
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
        labels: The label of each task.
        classes: The classes of the labeling config.
        names: Returns the classes of a label, which may be several.
        check_tasks: The tasks of the check set.

    Returns:
        The classes with one label or none, in the order of `classes`.
    """
    counts = Counter(name for label in labels.values() for name in names(label))
    return RareClasses(
        single=tuple(name for name in classes if counts[name] == 1),
        missing=tuple(name for name in classes if not counts[name]),
        n_labels=len(labels),
        n_blind=len(labels.keys() & {*check_tasks}),
    )


def single_in_words(rare: RareClasses) -> str:
    """Return a sentence that names the classes with one label, and what follows."""
    return f"{', '.join(rare.single)}: a label error cannot be found among single labels, and no crop is pre-filled with them"


def missing_in_words(rare: RareClasses) -> str:
    """Return a sentence that names the classes without a label, and what was done to find them."""
    each, them = ("it", "it") if len(rare.missing) == 1 else ("each of them", "them")
    tried = f"{', '.join(rare.missing)}. "
    if rare.n_labels == 1:
        tried += "One label has been given"
    else:
        tried += f"{rare.n_labels} labels have been given, most of them to crops unlike those labelled before"
    if rare.share_below is not None:
        sampled = "1 was given to a crop" if rare.n_blind == 1 else f"{rare.n_blind} were given to crops"
        tried += (
            f"; {sampled} sampled at random, so {each} makes up less than {rare.share_below:.0%} of the crops "
            "(95% confidence)"
        )
    return f"{tried}. Look for {them} on the page's map"
