"""The round in which each crop was labelled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from everylabel.backend.rounds.labelled_in import labelled_in
from everylabel.backend.store import Annotation


@dataclass(frozen=True)
class Finished:
    number: int
    finished_at: float


def test_a_label_belongs_to_the_round_it_was_served_from():
    def at(seconds):
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")

    given = [
        Annotation(1, 1, 1, "0", False, at(999)),
        Annotation(2, 2, 1, "0", False, at(1001.5)),
        Annotation(3, 3, 1, "0", False, at(5000)),
        Annotation(4, 4, 1, None, True, at(5000)),
        Annotation(5, 5, 1, "0", False, "yesterday"),
    ]
    assert labelled_in(given, [Finished(1, 1001.0), Finished(2, 1002.0)]) == {1: 1, 2: 1, 3: 2}
