"""What the blind check crops say about accuracy, worded alike on the page and on the command line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from everylabel.backend.store import RoundRecord

NARROW = 0.2
"""An interval this wide or less leads with its figure; a wider one is shown as the interval it is."""
TOO_WIDE = 0.4
"""From this width on, the next few check crops may turn the figure over."""


@dataclass(frozen=True)
class Accuracy:
    """What the check set said after a round: shares of 1, with the 95 % interval."""

    number: int
    n_labels: int
    estimate: float
    low: float
    high: float
    n: int

    @property
    def correct(self) -> int:
        """Return how many of the `n` check crops the model was right on."""
        return round(self.estimate * self.n)

    @property
    def is_narrow(self) -> bool:
        """Return whether the interval is narrow enough for the single figure to mean something."""
        return self.high - self.low <= NARROW

    @property
    def is_too_wide(self) -> bool:
        """Return whether the next few check crops may turn the figure over."""
        return self.high - self.low >= TOO_WIDE

    @property
    def reliability(self) -> str:
        """Return what to make of the figure: a short sentence, or nothing where it speaks for itself."""
        if self.is_narrow:
            return ""
        return "Too early to rely on." if self.is_too_wide else "Still a rough figure."

    @property
    def percent(self) -> int:
        """Return the estimate in per cent: never 100 where something was wrong, nor 0 where something was right."""
        if self.estimate in (0.0, 1.0):
            return round(100 * self.estimate)
        return min(99, max(1, round(100 * self.estimate)))

    @property
    def low_percent(self) -> int:
        """Return the lower end in per cent, rounded down, so that the interval holds its own estimate."""
        return math.floor(round(100 * self.low, 6))

    @property
    def high_percent(self) -> int:
        """Return the upper end in per cent, rounded up, so that the interval holds its own estimate."""
        return math.ceil(round(100 * self.high, 6))

    def in_words(self) -> str:
        """Return the interval first, and what it rests on."""
        crops = "blind check crop" if self.n == 1 else "blind check crops"
        told = (
            f"between {self.low_percent} and {self.high_percent} % "
            f"(95 % confidence; right on {self.correct} of {self.n} {crops})"
        )
        if self.is_narrow:
            return f"{self.percent} %, {told}"
        return f"{told}. {self.reliability}"


def accuracy_of(record: RoundRecord) -> Accuracy | None:
    """Return what a round says about accuracy.

    Returns:
        None where no check crop was labelled, or where all labels are of one class, so that there is no model to measure.
    """
    found = record.check_set
    if found is None or len(record.classes) < 2:
        return None
    return Accuracy(
        record.number, record.n_labels, found["estimate"], found["low"], found["high"], int(found["n"])
    )
