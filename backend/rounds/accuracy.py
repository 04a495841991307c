"""The accuracy measured on the blind check crops, in the same words on the page and on the command line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from everylabel.backend.store import RoundRecord

NARROW = 0.2
"""Up to this width of the interval, the estimate comes first; a wider interval is shown as an interval."""
TOO_WIDE = 0.4
"""From this width on, the next few check crops may change the figure a lot."""


@dataclass(frozen=True)
class Accuracy:
    """The accuracy on the check set after a round, from 0 to 1, with its 95 % interval."""

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
        """Return whether the next few check crops may change the figure a lot."""
        return self.high - self.low >= TOO_WIDE

    @property
    def reliability(self) -> str:
        """Return how far to rely on the figure: a short sentence, or nothing if the interval is narrow."""
        if self.is_narrow:
            return ""
        return "Too early to rely on." if self.is_too_wide else "Still a rough figure."

    @property
    def percent(self) -> int:
        """Return the estimate in per cent: 100 only if nothing was wrong, and 0 only if nothing was right."""
        if self.estimate in (0.0, 1.0):
            return round(100 * self.estimate)
        return min(99, max(1, round(100 * self.estimate)))

    @property
    def low_percent(self) -> int:
        """Return the lower end in per cent, rounded down, so that the interval contains its estimate."""
        return math.floor(round(100 * self.low, 6))

    @property
    def high_percent(self) -> int:
        """Return the upper end in per cent, rounded up, so that the interval contains its estimate."""
        return math.ceil(round(100 * self.high, 6))

    def in_words(self) -> str:
        """Return the accuracy in words, with its interval and the number of check crops."""
        crops = "blind check crop" if self.n == 1 else "blind check crops"
        told = (
            f"between {self.low_percent} and {self.high_percent} % "
            f"(95 % confidence; right on {self.correct} of {self.n} {crops})"
        )
        if self.is_narrow:
            return f"{self.percent} %, {told}"
        return f"{told}. {self.reliability}"


def accuracy_of(record: RoundRecord) -> Accuracy | None:
    """Return the accuracy that a round has measured.

    Args:
        record: The round.

    Returns:
        The accuracy; None if no check crop was labelled, or where all labels are of one class, so that there is no model to measure.
    """
    found = record.check_set
    if found is None or len(record.classes) < 2:
        return None
    return Accuracy(
        record.number, record.n_labels, found["estimate"], found["low"], found["high"], int(found["n"])
    )
