"""Say of each annotator how many labels they gave, how long one takes them, and how far these can be trusted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from everylabel.backend.label_studio.annotators import annotator_name
from everylabel.backend.rounds.accuracy import Interval
from everylabel.backend.rounds.labels import votes_by_task
from everylabel.backend.rounds.outlook import seconds_per_label
from everylabel.backend.store import Annotation

FEWEST_SHARED = 20
"""With fewer crops that others have labelled too, nothing is said of a person: one slip would be five points."""


@dataclass(frozen=True)
class AnnotatorFigures:
    """The figures of one annotator."""

    name: str
    labels: int
    seconds: float | None
    """The median time a form was open; None while fewer than five times are known."""
    shared: int
    """How many of their crops others have labelled too."""
    agreement: Interval | None
    """How often the others say the same; None below `FEWEST_SHARED` shared crops."""
    quality: Interval | None
    """How often they are right, as CROWDLAB estimates it; None also where nothing is estimated."""


def annotator_figures(
    counted: Sequence[Annotation], names: Mapping[int, str], quality: Mapping[str, float]
) -> list[AnnotatorFigures]:
    """Return the figures of each annotator, the one with the most labels first.

    Args:
        counted: The annotations that count.
        names: The annotators' names, by id.
        quality: How often each is right, by id as text, as the newest round has estimated it.
    """
    own: dict[int | None, list[Annotation]] = defaultdict(list)
    for annotation in counted:
        own[annotation.annotator].append(annotation)
    votes = votes_by_task(counted)
    shared = {task: given for task, given in votes.items() if len(given) > 1}
    found = [
        _figures(who, annotations, annotator_name(who, names), shared, quality)
        for who, annotations in own.items()
    ]
    return sorted(found, key=lambda one: (-one.labels, one.name))


def _figures(
    who: int | None,
    annotations: Sequence[Annotation],
    name: str,
    shared: Mapping[int, Mapping[str, str]],
    quality: Mapping[str, float],
) -> AnnotatorFigures:
    key = "nobody" if who is None else str(who)
    mine = [
        (given[key], Counter(label for by, label in given.items() if by != key))
        for given in shared.values()
        if key in given
    ]
    same = sum(others[label] / others.total() for label, others in mine)
    enough = len(mine) >= FEWEST_SHARED
    return AnnotatorFigures(
        name=name,
        labels=len(annotations),
        seconds=seconds_per_label(annotations),
        shared=len(mine),
        agreement=_share(same / len(mine), len(mine)) if enough else None,
        quality=_share(quality[key], len(mine)) if enough and key in quality else None,
    )


def _share(value: float, n: int) -> Interval:
    """Return a share with Wilson's interval for as many crops, of which that share is rounded to whole ones."""
    from everylabel.model.evaluation.check_set import wilson_interval  # noqa: PLC0415 - takes long to load

    low, high = wilson_interval(round(value * n), n)
    return Interval(value, min(low, value), max(high, value))


def said_of(one: AnnotatorFigures) -> Iterable[str]:
    """Yield what a table says of an annotator beside name and labels: seconds, agreement, quality."""
    few = "too few shared crops" if one.shared else "no shared crop"
    yield "-" if one.seconds is None else f"{one.seconds:.1f}"
    yield few if one.agreement is None else _in_words(one.agreement)
    yield "-" if one.quality is None else _in_words(one.quality)


def _in_words(share: Interval) -> str:
    return f"{share.percent} % ({share.low_percent} to {share.high_percent})"
