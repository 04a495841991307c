"""The state of a project in a few counts and times, which tell a page cheaply whether anything has changed."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from everylabel.backend.store.events import Events
from everylabel.backend.store.tables import AnnotationRow, AnnotatorRow, ProjectRow, RoundRow, TaskRow

LONG_WAIT_SECONDS = 120.0
"""From this age on a webhook waits too long: a round takes seconds, and a failure is tried again within half a minute."""


@dataclass(frozen=True)
class ProjectState:
    """Counts and newest times of a project; two that are equal mean that nothing changed in between."""

    events: int
    """Webhooks that wait to be handled."""
    waits_too_long: bool
    """True if the oldest of them has waited for `LONG_WAIT_SECONDS`."""
    tasks: int
    embedded: int
    unreadable: int
    annotations: int
    annotated_at: str | None
    annotators: int
    """The number of annotators whose names are known, in any project."""
    newest_round: int | None
    finished_at: float | None
    published_at: float | None
    model_round: int | None
    model_pinned: bool
    connected: bool
    problem: str | None
    encoder: str
    next_encoder: str | None
    better_encoder: str | None
    title: str


class ProjectStates(Events):
    """The part of the store that summarises projects."""

    def state(self, project_id: int) -> ProjectState | None:
        """Return the state of a project, or None if it is unknown: six small queries, no row read whole."""
        tasks = select(func.count(), func.count(TaskRow.embedding_row), func.count(TaskRow.problem))
        annotations = select(func.count(), func.max(AnnotationRow.updated_at))
        newest = select(RoundRow.number, RoundRow.finished_at, RoundRow.published_at)
        with self._session() as session:
            project = session.get(ProjectRow, project_id)
            if project is None:
                return None
            n_tasks, embedded, unreadable = session.execute(
                tasks.where(TaskRow.project_id == project_id)
            ).one()
            n_annotations, annotated_at = session.execute(
                annotations.where(AnnotationRow.project_id == project_id)
            ).one()
            latest = session.execute(
                newest.where(RoundRow.project_id == project_id).order_by(RoundRow.number.desc()).limit(1)
            ).first()
            number, finished_at, published_at = latest or (None, None, None)
            annotators = session.execute(select(func.count()).select_from(AnnotatorRow)).scalar_one()
            waiting, longest = self.events_waiting(project_id)
            return ProjectState(
                events=waiting,
                waits_too_long=longest >= LONG_WAIT_SECONDS,
                tasks=n_tasks,
                embedded=embedded,
                unreadable=unreadable,
                annotations=n_annotations,
                annotated_at=annotated_at,
                annotators=annotators,
                newest_round=number,
                finished_at=finished_at,
                published_at=published_at,
                model_round=project.model_round,
                model_pinned=project.model_pinned,
                connected=project.connected,
                problem=project.problem,
                encoder=project.encoder,
                next_encoder=project.next_encoder,
                better_encoder=project.better_encoder,
                title=project.title,
            )
