"""Say in a person's terms what the next labels take and bring, and what a certificate would cost."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from everylabel.backend.rounds.accuracy import accuracy_of
from everylabel.backend.store.annotations import submitted_at

if TYPE_CHECKING:
    from everylabel.backend.store import Annotation, RoundRecord
    from everylabel.backend.store.round_snapshot import RoundSnapshot
    from everylabel.model.evaluation.forecast import CurvePoint, Forecast

FEWEST_TIMES = 5
LONGEST_SECONDS = 300.0
"""A form that was open for longer was left open."""
MAX_ERROR = 0.02
"""What a certificate is forecast for."""
WORTH_IT = 0.5
"""The largest share of a set that is worth looking at."""
TOLD = 0.3
"""How much an estimate counts in the forecast, beside as many check crops as would have told as much.

Estimates of successive rounds are wrong together: at full weight the 80 % interval of the next 50 labels held what they
brought in 67 % of 99 replays, at this one in 81 %.
"""


def seconds_per_label(annotations: Iterable[Annotation]) -> float | None:
    """Return how long a person takes for a label: the median time a form was open.

    Args:
        annotations: The project's annotations.

    Returns:
        Seconds; None while fewer than five times are known.
    """
    times = []
    for annotation in annotations:
        if annotation.opened_at is None or annotation.choice is None or annotation.accepted:
            continue
        submitted = submitted_at(annotation.updated_at)
        if submitted is not None:
            times.append(submitted - annotation.opened_at)
    times = [seconds for seconds in times if 0 < seconds <= LONGEST_SECONDS]
    return statistics.median(times) if len(times) >= FEWEST_TIMES else None


def curve_of(records: Sequence[RoundRecord]) -> list[CurvePoint]:
    """Return the accuracy of each round as a number of check crops, as `forecast_gain` takes it.

    Args:
        records: A project's rounds, oldest first. Of those before it was switched to another encoder nothing is told: what
            the switch has brought would be taken for what labels bring.

    Returns:
        One point for each round with a measured accuracy.
    """
    from everylabel.model.evaluation.forecast import CurvePoint  # noqa: PLC0415 - takes long to load

    points = []
    for record in _with_the_present_encoder(records):
        found = accuracy_of(record)
        if found is None:
            continue
        correct, n = float(found.correct), found.n
        if found.n_crops:
            width = max(found.high - found.low, 0.02)
            spread = max(found.estimate * (1 - found.estimate), 0.01)
            n = max(1, round(TOLD * spread * (2 * 1.96 / width) ** 2))
            correct = found.estimate * n
        points.append(CurvePoint(found.n_labels, correct, n))
    return points


def _with_the_present_encoder(records: Sequence[RoundRecord]) -> Sequence[RoundRecord]:
    known = {record.number: record.encoder for record in records if record.encoder}
    others = [number for number, encoder in known.items() if encoder != known[max(known)]]
    return [record for record in records if record.number > max(others, default=-1)]


def next_labels_in_words(forecast: Forecast, seconds: float | None) -> str:
    """Return what the next labels take, where that is known, and how much accuracy they bring."""
    gain = 100 * forecast.gain
    brings = "next to nothing" if gain < 0.1 else f"about {gain:.1f} points of accuracy"
    takes = "" if seconds is None else f"take {span(forecast.more * seconds)} and "
    return f"The next {forecast.more} labels {takes}buy {brings}."


def certificate_in_words(snapshot: RoundSnapshot | None, closed: Iterable[int], seconds: float | None) -> str:
    """Return what it would take to certify as many crops of the newest round as is worth it.

    Args:
        snapshot: The round's predictions; None before the first.
        closed: Tasks that cannot be accepted: labelled, skipped, or of the check set.
        seconds: A person takes for a label; None where that is not known.

    Returns:
        A sentence; empty before there is a model, and where no crop is left.
    """
    if snapshot is None:
        return ""
    free = (snapshot.tasks > 0) & (snapshot.confidence > 0)
    free &= ~np.isin(snapshot.tasks, np.fromiter(closed, dtype=np.int64))
    if not free.any():
        return ""
    from everylabel.model.evaluation.certificate import Tally  # noqa: PLC0415 - takes long to load
    from everylabel.model.evaluation.spot_check import expected_cost, plan_next_look, stratify  # noqa: PLC0415

    strata, _ = stratify(snapshot.confidence[free].astype(np.float64), MAX_ERROR)
    plan = plan_next_look(strata, Tally.empty(len(strata.sizes)))
    cost = expected_cost(strata, plan)
    if plan.is_over or plan.expected_error > MAX_ERROR or cost.if_all_right > WORTH_IT * cost.crops:
        return (
            f"No set of crops is worth a certificate of {MAX_ERROR:.0%} errors yet: it would take about as many looks as it "
            "saves labels."
        )
    takes = "" if seconds is None else f", {span(cost.if_all_right * seconds)}"
    return (
        f"Certifying {MAX_ERROR:.0%} of errors on {cost.crops:,} of {int(free.sum()):,} crops takes about "
        f"{cost.if_all_right:,} looks{takes}, if no label looked at is wrong."
    )


def span(seconds: float) -> str:
    """Return a duration as a person would say it: `about 6 minutes`."""
    for size, name in ((3600, "hour"), (60, "minute")):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {name}s"
        if seconds >= 0.75 * size:
            return f"about {'an' if name == 'hour' else 'a'} {name}"
    return f"about {max(1, round(seconds))} s"
