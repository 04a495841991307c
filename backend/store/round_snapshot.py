"""The newest round's predictions of every crop, in one file beside the store: rounds write it, the page reads it."""

from __future__ import annotations

import json
import logging
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from everylabel.model.round import Round

log = logging.getLogger(__name__)

NO_CLASS = 65535
ISSUES_KEPT = 200
_FILE = "pool-view.npz"


@dataclass(frozen=True)
class SuspectedLabel:
    """A label that a person should review; `score` is the probability that it is correct."""

    task_id: int
    given: str
    suggested: str
    score: float


@dataclass(frozen=True)
class RoundSnapshot:
    """A round's predictions of each row of the embedding file."""

    number: int
    classes: tuple[str, ...]
    threshold: float
    tasks: NDArray[Any]
    """(n,) int64: the task whose crop the row is, 0 where none is any more."""
    predicted: NDArray[Any]
    """(n,) uint16: position in `classes`, `NO_CLASS` before there is a model."""
    confidence: NDArray[Any]
    """(n,) float32: calibrated probability of that class, 0 before there is a model."""
    suspected: tuple[SuspectedLabel, ...]
    """Most suspicious first."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """How often each annotator is right, as it is estimated, by id; empty while nobody disagrees."""
    second_labels: tuple[int, ...] = ()
    """Labelled tasks that are worth another person's look, the most useful first."""


def save(
    folder: Path,
    outcome: Round,
    task_at: NDArray[Any],
    quality: Mapping[str, float] = MappingProxyType({}),
    second_labels: Sequence[int] = (),
) -> None:
    """Write a round's predictions atomically, over those of the round before.

    Only the holder of the project's lock runs a round, so that there is one partial file, and the next round
    overwrites what a killed one has left.

    Args:
        folder: the project's.
        outcome: the round.
        task_at: (n,) the task of each row of the embedding file, 0 where there is none any more.
        quality: how often each annotator is right, by id.
        second_labels: labelled tasks that are worth another person's look.
    """
    predicted = np.full(len(task_at), NO_CLASS, dtype=np.uint16)
    confidence = np.zeros(len(task_at), dtype=np.float32)
    if outcome.probabilities is not None:
        predicted[:] = outcome.probabilities.argmax(axis=1)
        confidence[:] = outcome.probabilities.max(axis=1)
    suspected = [
        SuspectedLabel(
            int(task_at[issue.index]), issue.given_label, issue.suggested_label, float(issue.score)
        )
        for issue in outcome.label_issues[:ISSUES_KEPT]
    ]
    about = {
        "number": outcome.number,
        "classes": list(outcome.classes),
        "threshold": outcome.threshold,
        "suspected": [asdict(label) for label in suspected],
        "quality": dict(quality),
        "second_labels": list(second_labels),
    }
    partial = folder / f"{_FILE}.partial"
    with partial.open("wb") as file:
        np.savez(
            file,
            tasks=task_at,
            predicted=predicted,
            confidence=confidence,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        )
    partial.replace(folder / _FILE)


def written_at(folder: Path) -> int | None:
    """Return when the newest round was written, in nanoseconds; None before the first."""
    try:
        return (folder / _FILE).stat().st_mtime_ns
    except FileNotFoundError:
        return None


def load(folder: Path) -> RoundSnapshot | None:
    """Load the newest round's predictions; None before the first round, or if the file is damaged."""
    path = folder / _FILE
    try:
        with np.load(path, allow_pickle=False) as archive:
            about = json.loads(archive["about"].tobytes().decode())
            return RoundSnapshot(
                number=int(about["number"]),
                classes=tuple(about["classes"]),
                threshold=float(about["threshold"]),
                tasks=archive["tasks"],
                predicted=archive["predicted"],
                confidence=archive["confidence"],
                suspected=tuple(SuspectedLabel(**label) for label in about["suspected"]),
                # Rounds of earlier versions have none.
                quality={str(who): float(found) for who, found in about.get("quality", {}).items()},
                second_labels=tuple(int(task) for task in about.get("second_labels", ())),
            )
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        # The next round writes a new one.
        log.error("%s cannot be read (%s: %s)", path, type(error).__name__, error)
        return None
