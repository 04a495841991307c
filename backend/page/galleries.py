"""Choose the crops worth reviewing: next batch, suspected labels, predictions near the threshold, near-duplicates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from everylabel.backend.store import RoundRecord
from everylabel.backend.store.pool_map import PoolMap
from everylabel.backend.store.round_snapshot import NO_CLASS, RoundSnapshot

SHOWN = 24


@dataclass(frozen=True)
class Crop:
    """One crop of a gallery; what is None is not shown."""

    task_id: int
    label: str | None = None
    predicted: str | None = None
    confidence: float | None = None
    blind: bool = False
    """A check crop not labelled yet: nothing the model thinks of it may be seen."""


@dataclass(frozen=True)
class Suspect:
    """A label to review; `error_probability` is the probability that it is wrong."""

    task_id: int
    given: str
    suggested: str
    error_probability: float


@dataclass(frozen=True)
class NearDuplicates:
    """Two crops that look the same to the encoder; `labels` disagree where the two are labelled otherwise."""

    crops: tuple[Crop, Crop]
    similarity: float

    @property
    def disagree(self) -> bool:
        """True if both are labelled, and not alike."""
        one, other = (crop.label for crop in self.crops)
        return one is not None and other is not None and one != other


@dataclass(frozen=True)
class Galleries:
    """The crops worth reviewing now; each gallery holds at most `SHOWN`."""

    next_batch: tuple[Crop, ...]
    suspects: tuple[Suspect, ...]
    near_threshold: tuple[Crop, ...]
    """Highest confidence first: those above the threshold are pre-filled, those below are not."""
    near_duplicates: tuple[NearDuplicates, ...]
    second_labels: tuple[Crop, ...] = ()
    """Labelled crops of which one more person's label would tell most, the most useful first."""

    def tasks(self) -> set[int]:
        """Every task shown."""
        crops = (
            *self.next_batch,
            *self.near_threshold,
            *self.second_labels,
            *(crop for pair in self.near_duplicates for crop in pair.crops),
        )
        return {crop.task_id for crop in crops} | {suspect.task_id for suspect in self.suspects}


def galleries(
    latest: RoundRecord | None,
    snapshot: RoundSnapshot | None,
    pool_map: PoolMap | None,
    labels: Mapping[int, str],
    check_tasks: Sequence[int],
    closed: Collection[int] = (),
) -> Galleries:
    """Choose what each gallery shows.

    Args:
        latest: the newest round.
        snapshot: its predictions of the pool.
        pool_map: the map, which knows which crops are alike.
        labels: the label of each labelled task, as of now: the round may be older.
        check_tasks: every task ever sampled for the check set.
        closed: tasks nobody is asked for again, as of now: they are in no gallery of crops to label.
    """
    blind = {task for task in check_tasks if task not in labels}
    return Galleries(
        next_batch=() if latest is None else _next_batch(latest, snapshot, labels, blind, closed),
        suspects=() if snapshot is None else _suspects(latest, snapshot, labels),
        near_threshold=() if snapshot is None else _near_threshold(snapshot, labels, blind, closed),
        near_duplicates=()
        if snapshot is None or pool_map is None
        else _near_duplicates(snapshot, pool_map, labels, blind),
        second_labels=()
        if snapshot is None
        else tuple(Crop(task, label=labels[task]) for task in snapshot.second_labels if task in labels)[
            :SHOWN
        ],
    )


def _next_batch(
    latest: RoundRecord,
    snapshot: RoundSnapshot | None,
    labels: Mapping[int, str],
    blind: set[int],
    closed: Collection[int],
) -> tuple[Crop, ...]:
    open_tasks = [task for task in latest.queue if task not in labels and task not in closed][:SHOWN]
    row_of = {} if snapshot is None else dict(_rows(snapshot, open_tasks))
    return tuple(_crop(task, row_of.get(task), snapshot, labels, blind) for task in open_tasks)


def _suspects(
    latest: RoundRecord | None, snapshot: RoundSnapshot, labels: Mapping[int, str]
) -> tuple[Suspect, ...]:
    # One that was corrected since the round is no suspect any more; of one that another person is asked, nothing leads them.
    asked = () if latest is None else latest.second_labels
    still = (s for s in snapshot.suspected if labels.get(s.task_id) == s.given and s.task_id not in asked)
    return tuple(Suspect(s.task_id, s.given, s.suggested, 1 - s.score) for s in still)[:SHOWN]


def _near_threshold(
    snapshot: RoundSnapshot, labels: Mapping[int, str], blind: set[int], closed: Collection[int]
) -> tuple[Crop, ...]:
    taken = np.array([*{*labels, *blind, *closed}], dtype=np.int64)
    usable = (snapshot.tasks > 0) & (snapshot.predicted != NO_CLASS) & ~np.isin(snapshot.tasks, taken)
    rows = np.flatnonzero(usable)
    away = snapshot.confidence[rows] - snapshot.threshold
    above, below = rows[away >= 0], rows[away < 0]
    # Half from either side: a person reviews where the threshold cuts.
    nearest = [
        *above[np.argsort(snapshot.confidence[above], kind="stable")][: SHOWN // 2],
        *below[np.argsort(-snapshot.confidence[below], kind="stable")][: SHOWN // 2],
    ]
    nearest.sort(key=lambda row: -snapshot.confidence[row])
    return tuple(_crop(int(snapshot.tasks[row]), int(row), snapshot, labels, blind) for row in nearest)


def _near_duplicates(
    snapshot: RoundSnapshot, pool_map: PoolMap, labels: Mapping[int, str], blind: set[int]
) -> tuple[NearDuplicates, ...]:
    found = []
    for (one, other), similarity in zip(
        pool_map.near_duplicates, pool_map.near_duplicate_similarity, strict=True
    ):
        if max(one, other) >= len(snapshot.tasks):
            continue
        tasks = int(snapshot.tasks[one]), int(snapshot.tasks[other])
        if 0 in tasks:
            continue
        first, second = (
            _crop(task, int(row), snapshot, labels, blind)
            for task, row in zip(tasks, (one, other), strict=True)
        )
        found.append(NearDuplicates((first, second), float(similarity)))
    found.sort(key=lambda pair: not pair.disagree)  # stable: the most alike first
    return tuple(found[: SHOWN // 2])


def _rows(snapshot: RoundSnapshot, tasks: Sequence[int]) -> list[tuple[int, int]]:
    rows = np.flatnonzero(np.isin(snapshot.tasks, np.asarray(tasks, dtype=np.int64)))
    return [(int(snapshot.tasks[row]), int(row)) for row in rows]


def _crop(
    task: int, row: int | None, snapshot: RoundSnapshot | None, labels: Mapping[int, str], blind: set[int]
) -> Crop:
    if task in blind:
        return Crop(task, blind=True)
    label = labels.get(task)
    if snapshot is None or row is None or snapshot.predicted[row] == NO_CLASS:
        return Crop(task, label=label)
    return Crop(task, label, snapshot.classes[int(snapshot.predicted[row])], float(snapshot.confidence[row]))
