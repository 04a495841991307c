"""Finished rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy import delete, select, update

from everylabel.backend.store.disagreements import Disagreements, ResolvedDisagreement
from everylabel.backend.store.tables import ProjectRow, RoundRow

ROUNDS_KEPT = 2000


@dataclass(frozen=True)
class RoundRecord:
    """A finished round as it is stored: task ids and figures, no arrays."""

    number: int
    model_version: str
    n_labels: int
    classes: tuple[str, ...]
    threshold: float
    check: tuple[int, ...]
    batch: tuple[int, ...]
    pre_annotated: tuple[int, ...]
    suspected: tuple[int, ...]
    check_set: dict[str, float] | None
    seconds: dict[str, float]
    finished_at: float
    accuracy: dict[str, Any] | None = None
    """The estimate for the crops nobody has labelled: `estimate`, `low`, `high`, `n_crops`, and by class."""
    promoted: bool = True
    """True if its model came into use: it was not clearly worse on the check set than the one before."""
    stopping: dict[str, Any] | None = None
    """Advice on whether more labels are worth a person's time: `stop`, `reason`, `kappa`."""
    suspected_updates: dict[int, str] = field(default_factory=dict)
    """When the newest annotation of each task with a suspected label was submitted: a later one has reviewed it."""
    confirmed: dict[int, str] = field(default_factory=dict)
    """Labels that people have reviewed since they were suspected, by task."""
    emptied: tuple[int, ...] = ()
    """Tasks whose label became empty by an update; they stand among the suspected ones, with the label they had."""
    spot_check: tuple[int, ...] = ()
    """Crops of the spot check of a certificate, which people are asked for first, and blind."""
    asked: tuple[int, ...] = ()
    """Crops that somebody has asked for, which come before all others."""
    reserve: tuple[int, ...] = ()
    """Tasks served behind the queue and the confident ones, so that nobody is told that there is nothing to label."""
    second_labels: tuple[int, ...] = ()
    """Labelled tasks that Label Studio is to ask another person about; they are no part of the queue."""
    single_classes: tuple[str, ...] = ()
    """Classes with one label: no label error can be found in them, and no crop is pre-filled with them."""
    embedded_until: int = 0
    """The number of rows of the embedding file when it ran; more rows make another round due."""
    earlier: dict[str, Any] | None = None
    """What the model that the project began with had to say: its `digest`, its `share` and the `reason`."""
    encoder: str = ""
    """The signature of the encoder whose rows it learned from; empty in rounds that were stored without it."""
    published_at: float | None = None

    @property
    def queue(self) -> tuple[int, ...]:
        """The tasks that a person is asked to label, in order: asked for, spot check, blind check crops, batch."""
        return self.asked + self.spot_check + self.check + self.batch


class RoundRecords(Disagreements):
    """The part of the store that holds rounds."""

    def save_round(
        self,
        project_id: int,
        record: RoundRecord,
        check_tasks: Sequence[int],
        resolved: Mapping[int, ResolvedDisagreement] = MappingProxyType({}),
    ) -> None:
        """Store a finished round.

        Args:
            project_id: the project.
            record: the round.
            check_tasks: every task sampled for the check set so far.
            resolved: the disagreements between annotators that the round resolved, by task. They replace those of
                the round before it.
        """
        fields = {_STORED_AS.get(name, name): getattr(record, name) for name in _RECORD_FIELDS}
        with self._writing(project_id) as session:
            session.merge(
                RoundRow(
                    project_id=project_id,
                    number=record.number,
                    finished_at=record.finished_at,
                    published_at=record.published_at,
                    record=json.dumps(fields),
                )
            )
            session.execute(
                delete(RoundRow).where(
                    RoundRow.project_id == project_id, RoundRow.number <= record.number - ROUNDS_KEPT
                )
            )
            self._replace_disagreements(session, project_id, resolved)
            values: dict[str, Any] = {"check_tasks": json.dumps(list(check_tasks))}
            if record.promoted:
                values["model_round"] = record.number if len(record.classes) > 1 else None
            session.execute(update(ProjectRow).where(ProjectRow.id == project_id).values(**values))

    def mark_published(self, project_id: int, number: int) -> None:
        """Record that Label Studio's queue is now this round's."""
        with self._writing(project_id) as session:
            session.execute(
                update(RoundRow)
                .where(RoundRow.project_id == project_id, RoundRow.number == number)
                .values(published_at=self._clock())
            )

    def rounds(self, project_id: int, *, after: int = -1) -> list[RoundRecord]:
        """Return every round, or those numbered higher than `after`, oldest first."""
        query = (
            select(RoundRow)
            .where(RoundRow.project_id == project_id, RoundRow.number > after)
            .order_by(RoundRow.number)
        )
        with self._session() as session:
            return [_round(row) for row in session.scalars(query)]

    def round(self, project_id: int, number: int) -> RoundRecord | None:
        """Return one round, or None if there is none of this number."""
        with self._session() as session:
            row = session.get(RoundRow, (project_id, number))
            return None if row is None else _round(row)

    def latest_round(self, project_id: int) -> RoundRecord | None:
        """Return the newest round, or None before the first."""
        query = (
            select(RoundRow)
            .where(RoundRow.project_id == project_id)
            .order_by(RoundRow.number.desc())
            .limit(1)
        )
        with self._session() as session:
            row = session.scalars(query).first()
            return None if row is None else _round(row)


_RECORD_FIELDS = (
    "model_version",
    "embedded_until",
    "n_labels",
    "classes",
    "threshold",
    "check",
    "batch",
    "pre_annotated",
    "suspected",
    "check_set",
    "accuracy",
    "seconds",
    "promoted",
    "stopping",
    "suspected_updates",
    "confirmed",
    "emptied",
    "reserve",
    "second_labels",
    "single_classes",
    "spot_check",
    "asked",
    "earlier",
    "encoder",
)
_STORED_AS = {"suspected": "flagged", "suspected_updates": "flagged_updates"}
"""Keys that differ from the field: two versions of the backend share a store while one is replaced."""


def _round(row: RoundRow) -> RoundRecord:
    # A later version's rounds may hold more.
    stored = json.loads(row.record)
    keys = {name: _STORED_AS.get(name, name) for name in _RECORD_FIELDS}
    fields = {name: stored[key] for name, key in keys.items() if key in stored}
    for name in ("classes", "check", "batch", "pre_annotated", "suspected"):
        fields[name] = tuple(fields[name])
    for name in ("emptied", "reserve", "second_labels", "single_classes", "spot_check", "asked"):
        fields[name] = tuple(fields.get(name, ()))  # rounds of earlier versions have none
    for name in ("suspected_updates", "confirmed"):
        fields[name] = {
            int(id_): value for id_, value in fields.get(name, {}).items()
        }  # JSON has no other keys
    return RoundRecord(
        number=row.number, finished_at=row.finished_at, published_at=row.published_at, **fields
    )
