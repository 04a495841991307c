"""The map as it is sent to the browser: small numbers in a row, little-endian, no JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.store.pool_map import PoolMap
from everylabel.backend.store.round_snapshot import NO_CLASS, RoundSnapshot
from everylabel.model import label_set

SPAN = 65535


def shown_rows(snapshot: RoundSnapshot, pool_map: PoolMap) -> NDArray[Any]:
    """Return the rows that have a place on the map and are a task's crop, ascending."""
    rows = np.flatnonzero(snapshot.tasks)
    return np.asarray(rows[pool_map.shows(rows)])


def points(snapshot: RoundSnapshot, pool_map: PoolMap) -> bytes:
    """Return every crop's position: a count (uint32, 4 empty bytes), task ids (float64), x and y (uint16 each).

    The longer side of the map spans 0 to 65,535, y upwards; the shorter is centred.
    """
    rows = shown_rows(snapshot, pool_map)
    positions = pool_map.positions[rows].astype(np.float64)
    if len(rows):
        low, high = positions.min(axis=0), positions.max(axis=0)
        side = max(float((high - low).max()), 1e-12)
        positions = (positions - (low + high) / 2) / side + 0.5
    cells = np.clip(np.round(positions * SPAN), 0, SPAN).astype("<u2")
    count = np.array([len(rows), 0], dtype="<u4")
    tasks = snapshot.tasks[rows].astype("<f8")
    return b"".join(part.tobytes() for part in (count, tasks, cells[:, 0].copy(), cells[:, 1].copy()))


def colours(
    snapshot: RoundSnapshot,
    pool_map: PoolMap,
    classes: Sequence[str],
    labels: Mapping[int, str],
    rounds: Mapping[int, int],
    check_tasks: Sequence[int],
) -> bytes:
    """Return the labels and predictions of every crop, in the order of `points`.

    A count (uint32, 4 empty bytes); uint16 each: the label and the predicted class as positions in `classes` (65,535:
    none), the round it was labelled in (0: not labelled); uint8: the model's uncertainty, 255 at most. Of a check crop
    that nobody has labelled, nothing of the model's prediction is told.
    """
    rows = shown_rows(snapshot, pool_map)
    tasks = snapshot.tasks[rows]
    position = {name: code for code, name in enumerate(classes)}
    coded = {task: code for task, name in labels.items() if (code := _code(name, position)) is not None}
    label = _by_task(tasks, coded, NO_CLASS)
    in_round = _by_task(tasks, {task: min(SPAN, number) for task, number in rounds.items()}, 0)
    columns = [_code(name, position) for name in snapshot.classes]
    codes = np.array([NO_CLASS if code is None else code for code in columns] + [NO_CLASS], dtype="<u2")
    predicted = codes[np.minimum(snapshot.predicted[rows], len(codes) - 1)]
    # From a coin toss between all classes to certainty.
    toss = 1 / max(2, len(snapshot.classes))
    uncertainty = np.clip((1 - snapshot.confidence[rows]) / (1 - toss), 0, 1)
    uncertainty[predicted == NO_CLASS] = 1
    blind = np.isin(tasks, [task for task in check_tasks if task not in labels])
    predicted[blind], uncertainty[blind] = NO_CLASS, 0
    count = np.array([len(rows), 0], dtype="<u4")
    return b"".join(
        part.tobytes()
        for part in (
            count,
            label,
            predicted.astype("<u2"),
            in_round,
            np.round(uncertainty * 255).astype(np.uint8),
        )
    )


def _code(label: str, position: Mapping[str, int]) -> int | None:
    """Return the position of a label's class; of a set of classes, the first."""
    if label in position:
        return position[label]
    return position.get(label_set.split(label)[0])


def _by_task(tasks: NDArray[Any], values: Mapping[int, int], otherwise: int) -> NDArray[Any]:
    """Return a value of each task, from a mapping of a few of them: (len(tasks),) uint16."""
    found = np.full(len(tasks), otherwise, dtype="<u2")
    if not values or not len(tasks):
        return found
    order = np.argsort(tasks, kind="stable")
    known = np.fromiter(values, dtype=np.int64, count=len(values))
    places = np.minimum(np.searchsorted(tasks, known, sorter=order), len(tasks) - 1)
    there = tasks[order[places]] == known
    found[order[places[there]]] = np.fromiter(values.values(), dtype=np.int64, count=len(values))[there]
    return found
