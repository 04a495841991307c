"""Crops that somebody holds: opened in Label Studio and neither labelled nor skipped, so that nobody else gets them.

Label Studio 1.23.2 keeps a crop for whoever opened it, for a day, and shows this in no API. But it serves a round in
order: whoever was given a crop from a round was refused those before it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from operator import itemgetter

from everylabel.backend.store import Annotation, RoundRecord
from everylabel.backend.store.annotations import submitted_at

ROUNDS = 60
"""So many of the newest rounds are looked at: a crop that is held longer than they last is found again."""
ANNOTATIONS = 200
"""So many of the newest annotations are looked at."""
HELD_SECONDS = 86_400.0
"""How long Label Studio keeps a crop for whoever opened it."""
PASSED_OVER = 2
"""So often a crop must have been passed over: once, somebody may have picked another from a tab."""
CLOCKS_SECONDS = 1.0
"""How far the clock of Label Studio may be from ours."""


def held_crops(rounds: Sequence[RoundRecord], annotations: Sequence[Annotation], now: float) -> set[int]:
    """Return the tasks without any annotation that were passed over again and again in the last day.

    Args:
        rounds: the newest rounds, oldest first.
        annotations: oldest change first.
        now: in seconds since 1970.
    """
    published = [record for record in rounds if record.published_at is not None]
    annotated = {annotation.task_id for annotation in annotations}
    counts: Counter[int] = Counter()
    for task_id, opened in _opened(annotations[-ANNOTATIONS:]):
        if now - opened > HELD_SECONDS:
            continue
        served = [*_served(published, opened)]
        if any(task_id in record.second_labels for record in served):
            continue  # it came before the queue
        queues = [record.queue for record in served if task_id in record.queue]
        if queues:
            counts.update(set.intersection(*({*queue[: queue.index(task_id)]} for queue in queues)))
    return {id_ for id_, n in counts.items() if n >= PASSED_OVER and id_ not in annotated}


def _opened(annotations: Sequence[Annotation]) -> Iterator[tuple[int, float]]:
    """Yield annotated tasks and when they were opened: as Label Studio says, or as their annotator submitted the last."""
    by_annotator: defaultdict[int | None, list[tuple[float, int, float | None]]] = defaultdict(list)
    for annotation in annotations:
        at = submitted_at(annotation.updated_at)
        if at is not None and not annotation.accepted:
            by_annotator[annotation.annotator].append((at, annotation.task_id, annotation.opened_at))
    for submitted in by_annotator.values():
        before = None
        for at, task_id, opened in sorted(submitted, key=itemgetter(0)):
            known = before if opened is None else opened
            if known is not None:
                yield task_id, known
            before = at


def _served(published: Sequence[RoundRecord], at: float) -> Iterator[RoundRecord]:
    """Yield the rounds that may have been served at a moment: about as many as were within the clocks' difference."""
    for i, record in enumerate(published):
        start = record.published_at or 0.0
        end = published[i + 1].published_at if i + 1 < len(published) else None
        if start <= at + CLOCKS_SECONDS and (end is None or at - CLOCKS_SECONDS <= end):
            yield record
