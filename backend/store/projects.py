"""Projects that the backend knows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, false, func, select

from everylabel.backend.store.database import Database
from everylabel.backend.store.tables import (
    AnnotationRow,
    CertificateRow,
    DeletedRow,
    LabelPageRow,
    OtherEmbeddingRow,
    PageLabelRow,
    ProjectRow,
    RoundRow,
    TaskRow,
)


@dataclass(frozen=True)
class Project:
    """A Label Studio project the backend knows."""

    id: int
    label_config: str
    encoder: str
    """The signature of the encoder that its crops are embedded with."""
    connected: bool
    """`everylabel connect` has set it up: rounds are published into it."""
    problem: str | None
    reconciled_at: float | None
    model_round: int | None
    """The round whose model answers `/predict` and pre-fills; None before there is one."""
    model_pinned: bool
    """A person has rolled back to that round: new ones are not promoted."""
    check_tasks: tuple[int, ...]
    """Every task ever sampled for the blind check set, in that order."""
    title: str = ""
    """Its title in Label Studio; empty until it was read from there."""
    encoder_name: str | None = None
    """The encoder it was switched to; that of the settings if None."""
    next_encoder: str | None = None
    """The encoder it is being switched to, if any: its crops are embedded with that one too."""
    next_signature: str | None = None
    """The signature of that encoder."""
    better_encoder: str | None = None
    """A sentence on the encoder that was better on the project's labels when they were last compared, if one was."""
    earlier_model: str | None = None
    """The model it began with, as `everylabel.backend.store.earlier_model` reads it; None if it began without one."""
    overlap: int = 1
    """How many people a crop may be asked of, where Label Studio leaves it to us which crops; 1 in all other projects."""
    own_overlap: int = 1
    """How many people Label Studio asks about crops that it picks itself, or about all; 1 where it picks none."""


@dataclass(frozen=True)
class Listing:
    """The state of reading a project's tasks from Label Studio; times are seconds since 1970."""

    until: int
    """The last task a first listing had come to when it was broken off; 0 where none was."""
    at: float | None
    """When the last one that was not broken off began."""
    whole_at: float | None
    """When the last one began that read every task."""


class Projects(Database):
    """The part of the store that holds projects."""

    def project(self, project_id: int) -> Project | None:
        """Return one project, or None if it is unknown."""
        with self._session() as session:
            row = session.get(ProjectRow, project_id)
            return None if row is None else _project(row)

    def listing(self, project_id: int) -> Listing:
        """Return how far, and when, the project's tasks were last read from Label Studio."""
        with self._session() as session:
            row = session.get(ProjectRow, project_id)
            if row is None:
                return Listing(0, None, None)
            return Listing(row.listed_until or 0, row.listed_at, row.listed_whole_at)

    def projects(self) -> list[Project]:
        """Return every known project, by id."""
        with self._session() as session:
            return [_project(row) for row in session.scalars(select(ProjectRow).order_by(ProjectRow.id))]

    def count_unverified_projects(self) -> int:
        """Return how many projects were named to the backend and never found in Label Studio yet."""
        query = select(func.count()).where(
            ProjectRow.connected == false(), ProjectRow.reconciled_at.is_(None)
        )
        with self._session() as session:
            return session.scalar(query) or 0

    def save_project(self, project_id: int, **changes: Any) -> Project:
        """Create or change a project; names are those of `Project`.

        Returns:
            The project as it is now.
        """
        if "check_tasks" in changes:
            changes["check_tasks"] = json.dumps(list(changes["check_tasks"]))
        with self._writing(project_id) as session:
            row = session.get(ProjectRow, project_id)
            if row is None:
                row = ProjectRow(id=project_id, **changes)
                session.add(row)
            else:
                for name, value in changes.items():
                    setattr(row, name, value)
            session.flush()  # which fills in the defaults of a new row
            return _project(row)

    def delete_project(self, project_id: int) -> None:
        """Delete a project with its tasks, annotations and rounds."""
        with self._writing(project_id) as session:
            tables = (
                TaskRow,
                OtherEmbeddingRow,
                AnnotationRow,
                DeletedRow,
                RoundRow,
                CertificateRow,
                PageLabelRow,
                LabelPageRow,
            )
            for table in tables:
                session.execute(delete(table).where(table.project_id == project_id))
            session.execute(delete(ProjectRow).where(ProjectRow.id == project_id))


def _project(row: ProjectRow) -> Project:
    return Project(
        id=row.id,
        label_config=row.label_config,
        encoder=row.encoder,
        connected=row.connected,
        problem=row.problem,
        reconciled_at=row.reconciled_at,
        model_round=row.model_round,
        model_pinned=row.model_pinned,
        check_tasks=tuple(json.loads(row.check_tasks)),
        title=row.title,
        encoder_name=row.encoder_name,
        next_encoder=row.next_encoder,
        next_signature=row.next_signature,
        better_encoder=row.better_encoder,
        earlier_model=row.earlier_model,
        overlap=row.overlap,
        own_overlap=row.own_overlap,
    )
