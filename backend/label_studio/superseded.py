"""Superseded rounds that Label Studio still has to hold, because somebody may have a form of them open.

Label Studio 1.23.2 shows every prediction of a task as a tab of its own, so superseded ones have to go. But it refuses an
annotation (400) whose `parent_prediction` is gone, and it does not tell who has which task open. What is known is when
each person submitted last: the next crop is loaded in that instant, and a round later it is still open.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest

from everylabel.backend.label_studio.publisher import version_name
from everylabel.backend.store import Annotation, RoundRecord
from everylabel.backend.store.annotations import submitted_at

OPEN_SECONDS = 86_400.0
"""How long a form may stay open: Label Studio keeps a crop for whoever it was served to that long."""
BEFORE_SECONDS, AFTER_SECONDS = 5.0, 30.0
"""How far from a submit the next crop may have been loaded: clocks differ a little, and people reload."""
KEPT_SECONDS = 120.0
"""How long a superseded round stays in any case: somebody may have opened a crop from a tab, and others go on."""
KEPT_FOR_OTHERS_SECONDS = 900.0
"""The same where a user has not submitted for a day: nothing tells when they opened a crop."""


def left_behind(annotations: Sequence[Annotation], newest: RoundRecord, before: float) -> list[int]:
    """Return the annotated tasks that the newest round does not show and that nobody has submitted lately.

    Args:
        annotations: oldest change first.
        newest: the newest round.
        before: what was submitted later may still be open, with its *Update* button; in seconds since 1970 by Label
            Studio's clock. So may the last one of each person.
    """
    shown = {*newest.queue, *newest.pre_annotated, *newest.flagged, *newest.emptied}
    last = {annotation.annotator: annotation.task_id for annotation in annotations}
    late = {one.task_id for one in annotations if (at := submitted_at(one.updated_at)) is None or at > before}
    return [
        id_
        for id_ in dict.fromkeys(one.task_id for one in annotations)
        if id_ not in {*shown, *last.values(), *late}
    ]


def needed_versions(
    rounds: Sequence[RoundRecord],
    submitted: Mapping[int | None, float],
    users: Collection[int],
    now: float,
) -> set[str]:
    """Return the versions to be kept: those that are served, and those that may be open before somebody.

    Args:
        rounds: the project's, oldest first.
        submitted: when each annotator submitted last, in seconds since 1970 by the clock of `now`.
        users: everybody who may sign in to Label Studio; empty where that is not asked.
        now: in seconds since 1970.
    """
    active = {who: at for who, at in submitted.items() if now - at < OPEN_SECONDS}
    kept = KEPT_SECONDS if len(users) < 2 or {*users} <= active.keys() else KEPT_FOR_OTHERS_SECONDS
    published = [record for record in rounds if record.published_at is not None]
    needed = {version_name(record.number) for record in (*rounds[-1:], *published[-1:])}
    for record, following in zip_longest(rounds, rounds[1:]):
        if following is None:
            continue
        # Of rounds that were never published nothing is to be deleted.
        start = record.published_at or record.finished_at
        end = following.published_at or following.finished_at
        opened = any(at - BEFORE_SECONDS <= end and start <= at + AFTER_SECONDS for at in active.values())
        if opened or now - end < kept:
            needed.add(version_name(record.number))
    return needed
