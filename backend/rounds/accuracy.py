"""The accuracy of the model in use, in the same words on the page and on the command line."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everylabel.backend.store import RoundRecord
    from everylabel.model.evaluation.accuracy import AccuracyEstimate

NARROW = 0.2
"""Up to this width of the interval, the estimate comes first; a wider interval is shown as an interval."""
TOO_WIDE = 0.4
"""From this width on, the next few check crops may change the figure a lot."""


@dataclass(frozen=True)
class Interval:
    """A share from 0 to 1 with its 95 % interval, in per cent for people."""

    estimate: float
    low: float
    high: float

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


@dataclass(frozen=True)
class OfClass:
    """How the crops of a class fare: those of it that are found, and those taken for it that are of it."""

    name: str
    recall: Interval
    precision: Interval


@dataclass(frozen=True)
class Confused:
    """Crops of one class that are taken for another: their share, and how many of them nobody has labelled."""

    name: str
    predicted: str
    share: float
    crops: float

    def in_words(self) -> str:
        """Return the confusion in a sentence."""
        return f"{self.name} taken for {self.predicted}: about {max(1, round(100 * self.share))} % of all {self.name}"


@dataclass(frozen=True)
class Accuracy(Interval):
    """How often the model of a round is right, from 0 to 1, with its 95 % interval."""

    number: int
    n_labels: int
    n: int
    """How many blind check crops are labelled."""
    correct: int
    """On how many of them models that had not seen them were right."""
    n_crops: int = 0
    """How many crops without a label it is an estimate of; 0 where the blind check crops alone were counted."""
    by_class: tuple[OfClass, ...] = ()
    confusions: tuple[Confused, ...] = ()
    contradicted: bool = False
    """True where the blind check crops say something else."""

    @property
    def is_narrow(self) -> bool:
        """Return whether the interval is narrow enough for the single figure to mean something."""
        return self.high - self.low <= NARROW

    @property
    def is_one_figure(self) -> bool:
        """Return whether the estimate comes first: the interval is narrow, and the blind check crops do not say otherwise."""
        return self.is_narrow and not self.contradicted

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
    def blind(self) -> str:
        """Return what was counted on the blind check crops; empty while none is labelled."""
        crops = "blind check crop" if self.n == 1 else "blind check crops"
        return f"right on {self.correct} of {self.n} {crops}" if self.n else ""

    def in_words(self) -> str:
        """Return the accuracy in words, with its interval and the number of check crops."""
        about = f" on the {self.n_crops:,} crops nobody has labelled" if self.n_crops else ""
        blind = f"; {self.blind}" if self.n else ""
        told = f"between {self.low_percent} and {self.high_percent} %{about} (95 % confidence{blind})"
        if self.contradicted:
            return f"{told}. {CONTRADICTED}"
        if self.is_narrow:
            return f"{self.percent} %, {told}"
        return f"{told}. {self.reliability}"


CONTRADICTED = "The blind check crops say otherwise: rely on neither until more of them are labelled."


def stored(found: AccuracyEstimate) -> dict[str, Any]:
    """Return an estimate as a round's record holds it, beside the count on the check set."""
    fields = asdict(found) | {"contradicted": found.is_contradicted}
    del fields["check"]
    return fields


def accuracy_of(record: RoundRecord) -> Accuracy | None:
    """Return the accuracy of a round's model.

    Args:
        record: The round.

    Returns:
        The estimate for the crops nobody has labelled, or the count on the check crops in rounds that have none. None where
        there is neither, or where all labels are of one class, so that there is no model to measure.
    """
    if len(record.classes) < 2:
        return None
    checked, found = record.check_set, record.accuracy
    n = int(checked["n"]) if checked else 0
    correct = round(checked["estimate"] * n) if checked else 0
    if found is not None:
        return Accuracy(
            found["estimate"],
            found["low"],
            found["high"],
            record.number,
            record.n_labels,
            n,
            correct,
            n_crops=int(found["n_crops"]),
            by_class=tuple(
                OfClass(one["name"], Interval(**one["recall"]), Interval(**one["precision"]))
                for one in found["by_class"]
            ),
            confusions=tuple(Confused(**one) for one in found["confusions"]),
            contradicted=bool(found["contradicted"]),
        )
    if checked is None:
        return None
    return Accuracy(
        checked["estimate"], checked["low"], checked["high"], record.number, record.n_labels, n, correct
    )
