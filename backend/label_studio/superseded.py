"""Superseded rounds that Label Studio still has to hold, because somebody may have a form of them open.

Label Studio 1.23.2 shows every prediction of a task as a tab of its own, so superseded ones have to go. But it refuses an
annotation, new or changed, whose `parent_prediction` is gone (400), and every form that was opened on a prediction names it,
an empty one too. It does not tell who has which task open. What is known is when each annotation was submitted, and when
its form was opened. The label stream loads the next crop in the instant of a submit: unless a form opened in that instant
has been submitted too, that crop is still open, whatever the same person has done in other tabs meanwhile. A crop opened
from a tab of the data manager leaves no trace; it takes time, though, in which the person submits nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from statistics import median

from everylabel.backend.label_studio.publisher import version_name
from everylabel.backend.store import Annotation, RoundRecord
from everylabel.backend.store.annotations import submitted_at

OPEN_SECONDS = 86_400.0
"""How long a form may stay open: Label Studio keeps a crop for whoever it was served to that long."""
BEFORE_SECONDS, AFTER_SECONDS = 5.0, 30.0
"""How far from a person's last submit the next crop may have been loaded: clocks differ a little, and people reload."""
NEXT_SECONDS = 5.0
"""How long after a submit the label stream has loaded the next crop; measured: 0.8 s, and 5 s on a busy machine."""
OPEN_FORMS = 8
"""So many forms of one person may be open at once; of more, the oldest are taken to be closed."""
KEPT_SECONDS = 120.0
"""How long a superseded round stays in any case: somebody may have opened a crop from a tab, and others go on."""
KEPT_FOR_OTHERS_SECONDS = 900.0
"""The same where a user has not submitted for a day: nothing tells when they opened a crop."""
PAUSE_FACTOR, LEAST_PAUSE_SECONDS = 1.5, 5.0
"""A round served for this many times as long as is usual, and at least so long, was served during a pause: somebody may
have opened a crop from a tab."""
PAUSES, PAUSES_SECONDS = 6, 3600.0
"""So many rounds stay for so long: those of the longest pauses."""


@dataclass(frozen=True)
class Submit:
    """The submit of one annotation; times are in seconds since 1970."""

    annotator: int | None
    task_id: int
    at: float
    opened_at: float | None
    """When the form was opened; None where it is not known."""


def submits_of(annotations: Iterable[Annotation], clock_lead: float = 0.0) -> list[Submit]:
    """Return the submits that people's annotations tell of, by a clock that leads Label Studio's by `clock_lead` seconds."""
    found = []
    for one in annotations:
        at = submitted_at(one.updated_at)
        if at is not None and not one.accepted:
            opened = None if one.opened_at is None else one.opened_at + clock_lead
            found.append(Submit(one.annotator, one.task_id, at + clock_lead, opened))
    return found


def last_of_open_forms(submits: Iterable[Submit]) -> list[list[Submit]]:
    """Return, for each person, the submits after which a form may be open, the oldest first.

    The form is the next crop of the label stream, or the submitted one where it was opened from a tab. The last submit of a
    person is always among them.
    """
    by_person: dict[int | None, list[Submit]] = defaultdict(list)
    for submit in sorted(submits, key=lambda one: one.at):
        by_person[submit.annotator].append(submit)
    return [list(_unfollowed(own))[-OPEN_FORMS:] for own in by_person.values()]


def _unfollowed(submits: Sequence[Submit]) -> Iterator[Submit]:
    """Yield the submits of one person whose next crop has not been submitted."""
    opened = sorted(one.opened_at for one in submits if one.opened_at is not None)
    for submit, following in zip_longest(submits, submits[1:]):
        if following is None:
            yield submit
        elif following.opened_at is not None:
            # A form that was opened after another submit is that one's.
            until = min(submit.at + NEXT_SECONDS, following.at)
            if bisect_left(opened, submit.at) == bisect_right(opened, until):
                yield submit


def left_behind(
    annotations: Sequence[Annotation], newest: RoundRecord, before: float
) -> tuple[list[int], list[int]]:
    """Return the annotated tasks that nobody has open: those the newest round does not show, and those it questions.

    Args:
        annotations: oldest change first.
        newest: the newest round.
        before: what was submitted later may still be open, with its *Update* button; in seconds since 1970 by Label
            Studio's clock. So may those of `last_of_open_forms`.

    Returns:
        The tasks that it does not show, and those with a suspected or an emptied label.
    """
    questioned = {*newest.suspected, *newest.emptied}
    shown = {*newest.queue, *newest.pre_annotated, *newest.reserve} | questioned
    last = {annotation.annotator: annotation.task_id for annotation in annotations}
    submits = [submit for submit in submits_of(annotations) if submit.at > before - OPEN_SECONDS]
    late = {submit.task_id for submit in submits if submit.at > before}
    may_be_open = {submit.task_id for own in last_of_open_forms(submits) for submit in own}
    undated = {one.task_id for one in annotations if submitted_at(one.updated_at) is None}
    kept = {*last.values(), *late, *may_be_open, *undated}
    closed = [id_ for id_ in dict.fromkeys(one.task_id for one in annotations) if id_ not in kept]
    return [id_ for id_ in closed if id_ not in shown], [id_ for id_ in closed if id_ in questioned]


def needed_versions(
    rounds: Sequence[RoundRecord], submits: Sequence[Submit], users: Collection[int], now: float
) -> set[str]:
    """Return the versions to be kept: those that are served, and those that may be open before somebody.

    Args:
        rounds: the project's, oldest first.
        submits: those of the last day, by the clock of `now`.
        users: everybody who may sign in to Label Studio; empty where that is not asked.
        now: in seconds since 1970.
    """
    recent = [submit for submit in submits if now - submit.at < OPEN_SECONDS]
    active = {submit.annotator for submit in recent}
    kept = KEPT_SECONDS if len(users) < 2 or {*users} <= active else KEPT_FOR_OTHERS_SECONDS
    published = [record for record in rounds if record.published_at is not None]
    needed = {version_name(record.number) for record in (*rounds[-1:], *published[-1:])}
    opened = [span for own in last_of_open_forms(recent) for span in _opened_during(own)]
    paused = served_during_pauses(rounds, now)
    for record, start, end in _served(rounds, now):
        may_be_open = any(start <= until and since <= end for since, until in opened)
        if may_be_open or record.number in paused or now - end < kept:
            needed.add(version_name(record.number))
    return needed


def reserves_left_over(
    rounds: Sequence[RoundRecord],
    submits: Sequence[Submit],
    people: int,
    now: float,
    done: Collection[int] = (),
) -> list[RoundRecord]:
    """Return the superseded rounds that the label stream did not come to the reserve of.

    It does so only once all other crops of the round are labelled, or held by somebody. Whoever holds one gets that one
    again from `/next` until they submit it, so each person holds one.

    Args:
        rounds: the project's, oldest first.
        submits: those of the last day, by the clock of `now`.
        people: how many may hold a crop.
        now: in seconds since 1970.
        done: numbers of rounds to leave out.
    """
    found = []
    published = [record.number for record in rounds if record.published_at is not None]
    for record, _, end in _served(rounds, now):
        # The newest published one is served for as long as Label Studio refuses newer ones.
        if record.published_at is None or record.number == published[-1] or record.number in done:
            continue
        if not record.reserve or now - end < KEPT_SECONDS:
            continue
        labelled = {submit.task_id for submit in submits if submit.at <= end}
        if len({*record.queue, *record.pre_annotated} - labelled) > people:
            found.append(record)
    return found


def _served(rounds: Sequence[RoundRecord], now: float) -> Iterator[tuple[RoundRecord, float, float]]:
    """Yield each superseded round of the last day with the times from when and until when it was served."""
    for record, following in pairwise(rounds):
        # Of rounds that were never published nothing is to be deleted.
        start = record.published_at or record.finished_at
        end = following.published_at or following.finished_at
        if now - end < OPEN_SECONDS:
            yield record, start, end


def _opened_during(submits: Sequence[Submit]) -> Iterator[tuple[float, float]]:
    """Yield from when until when forms of one person may have been opened that may be open still."""
    for submit in submits:
        after = AFTER_SECONDS if submit is submits[-1] else NEXT_SECONDS
        yield submit.at - BEFORE_SECONDS, submit.at + after
        if submit.opened_at is not None:  # the form itself, with its *Update* button
            yield submit.opened_at - BEFORE_SECONDS, submit.opened_at + BEFORE_SECONDS


def served_during_pauses(rounds: Sequence[RoundRecord], now: float) -> set[int]:
    """Return the numbers of the superseded rounds that were served for unusually long, until less than an hour ago."""
    served = list(_served(rounds, now))
    if not served:
        return set()
    usual = median(end - start for _, start, end in served)
    least = max(PAUSE_FACTOR * usual, LEAST_PAUSE_SECONDS)
    pauses = sorted(
        (end - start, record.number)
        for record, start, end in served
        if end - start > least and now - end < PAUSES_SECONDS
    )
    return {number for _, number in pauses[-PAUSES:]}
