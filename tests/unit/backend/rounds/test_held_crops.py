"""A crop that somebody opened and left is found out by the order in which others are served, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

from everylabel.backend.rounds.held_crops import HELD_SECONDS, held_crops
from everylabel.backend.store import Annotation
from tests.unit.backend.rounds.test_runner import flagging

NOW = 1_800_000_000.0


def rounds(*published, every=60.0):
    """Rounds with these batches, one a minute, the newest a minute ago."""
    start = NOW - every * len(published)
    return [
        replace(flagging(i + 1, (), {}), check=(), batch=batch, published_at=start + every * i)
        for i, batch in enumerate(published)
    ]


def submitted(*tasks, annotator=1, first=-35.0, every=60.0, records):
    """Annotations, each half a minute after a round was published; the first before there was any."""
    at = records[0].published_at + first
    return [
        Annotation(
            100 * annotator + i,
            task,
            annotator,
            "a",
            False,
            datetime.fromtimestamp(at + every * i, timezone.utc).isoformat(),
        )
        for i, task in enumerate(tasks)
    ]


def test_a_crop_that_is_passed_over_twice_is_held():
    records = rounds((1, 2, 3), (1, 3, 4), (1, 4, 5), (1, 5, 6))
    assert held_crops(records, submitted(9, 8, 3, 4, records=records), NOW) == {1}
    assert held_crops(records, submitted(9, 8, 3, records=records), NOW) == set()


def test_whoever_labels_in_order_passes_nobody_over():
    records = rounds((1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 6))
    assert held_crops(records, submitted(9, 8, 2, 3, 4, records=records), NOW) == set()


def test_a_crop_opened_from_the_round_before_says_nothing_about_the_newer_one():
    """It is served in the click that submits the one before; the round with that label comes a second later."""
    records = rounds((1, 2), (5, 6, 2), (6, 7, 5), (7, 8, 6))
    annotations = submitted(9, 1, 2, 5, 6, first=-1.0, records=records)
    assert held_crops(records, annotations, NOW) == set()


def test_what_was_labelled_from_another_part_of_the_round_says_nothing():
    records = rounds((1, 2), (1, 2), (1, 2), (1, 2))
    assert held_crops(records, submitted(9, 21, 22, 23, records=records), NOW) == set()


def test_a_second_label_comes_before_the_queue_and_passes_nobody_over():
    """Opened in the second in which the round was published, it may seem to be of the round before."""
    records = rounds((1, 2, 3), (1, 3, 4), (1, 4, 5), (1, 5, 6))
    annotations = submitted(9, 3, 4, 5, first=0.5, records=records)
    assert held_crops(records, annotations, NOW) == {1}
    asked = [replace(one, second_labels=(3, 4, 5)) for one in records]
    assert held_crops(asked, annotations, NOW) == set()


def test_a_crop_is_held_no_longer_once_it_is_labelled_or_a_day_has_passed():
    records = rounds((1, 2, 3), (1, 3, 4), (1, 4, 5), (1, 5, 6))
    annotations = submitted(9, 8, 3, 4, records=records)
    by_its_holder = Annotation(999, 1, 2, "b", False, "2026-01-01T00:00:00Z")
    assert held_crops(records, [*annotations, by_its_holder], NOW) == set()
    assert held_crops(records, annotations, NOW + HELD_SECONDS) == set()


def test_when_a_form_was_opened_counts_where_label_studio_says_it():
    """Somebody comes back after a break: the form was opened from the newest round, not from that of the last submit."""
    records = rounds((1, 2), (3, 4), (5, 6), (7, 1, 8))
    at = records[3].published_at + 30
    annotations = [
        replace(annotation, opened_at=at + n) for n, annotation in enumerate(submitted(8, 1, records=records))
    ]
    assert held_crops(records, annotations, NOW) == {7}
    assert held_crops(records, submitted(8, 1, records=records), NOW) == set()
