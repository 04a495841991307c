"""The round in which each crop was labelled, as far as times tell."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from everylabel.backend.store import Annotation, RoundRecord
from everylabel.backend.store.annotations import submitted_at


def labelled_in(annotations: Sequence[Annotation], records: Sequence[RoundRecord]) -> dict[int, int]:
    """Return, by task, the round whose queue each labelled task was served from, as far as times tell.

    Args:
        annotations: Of a project, the oldest change first.
        records: Its rounds, oldest first.
    """
    ends = [record.finished_at for record in records]
    found: dict[int, int] = {}
    for annotation in annotations:
        at = submitted_at(annotation.updated_at)
        if annotation.cancelled or annotation.choice is None or at is None:
            continue
        before = bisect_right(ends, at)
        found[annotation.task_id] = records[before - 1].number if before else 1
    return found
