"""Annotations as Label Studio holds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import delete, func, select

from backend.store.database import chunks
from backend.store.deletions import Deletions
from backend.store.tables import AnnotationRow


@dataclass(frozen=True)
class Annotation:
    """One annotation as Label Studio holds it; `choice` is None where it picks no single class."""

    id: int
    task_id: int
    annotator: int | None
    choice: str | None
    cancelled: bool
    updated_at: str
    accepted: bool = False
    """Made by `everylabel accept` and touched by nobody since: a machine's label, approved in bulk."""


class Annotations(Deletions):
    """The part of the store that keeps annotations."""

    def save_annotations(
        self, project_id: int, annotations: Iterable[Annotation], *, as_read: bool = False
    ) -> None:
        """Add or update annotations; an older version never replaces a newer one, a deleted one stays so.

        Args:
            project_id: the project.
            annotations: as webhooks bring them, in any order.
            as_read: they were just read from Label Studio, so they hold whatever their age says.
        """
        annotations = list(annotations)
        with self._writing(project_id) as session:
            ids = [annotation.id for annotation in annotations]
            gone: set[int] = set()
            if as_read:
                self._exists_again(session, project_id, "annotation", ids)
            else:
                tasks = {annotation.task_id for annotation in annotations}
                gone_tasks = self._deleted(session, project_id, "task", tasks)
                gone = self._deleted(session, project_id, "annotation", ids)
                gone |= {annotation.id for annotation in annotations if annotation.task_id in gone_tasks}
            for annotation in annotations:
                if annotation.id in gone:
                    continue
                row = session.get(AnnotationRow, (project_id, annotation.id))
                if row is None:
                    row = AnnotationRow(project_id=project_id, id=annotation.id)
                    session.add(row)
                elif row.updated_at > annotation.updated_at and not as_read:
                    continue
                row.task_id = annotation.task_id
                row.annotator = annotation.annotator
                row.choice = annotation.choice
                row.cancelled = annotation.cancelled
                row.updated_at = annotation.updated_at
                row.accepted = annotation.accepted

    def delete_annotations(self, project_id: int, annotation_ids: Iterable[int]) -> None:
        """Forget annotations by their id: all that Label Studio says about a deletion."""
        annotation_ids = list(annotation_ids)
        with self._writing(project_id) as session:
            self._remember_deleted(session, project_id, "annotation", annotation_ids)
            for ids in chunks(annotation_ids):
                session.execute(
                    delete(AnnotationRow).where(
                        AnnotationRow.project_id == project_id, AnnotationRow.id.in_(ids)
                    )
                )

    def number_of_annotations(self, project_id: int) -> int:
        """How many annotations a project has."""
        query = select(func.count()).select_from(AnnotationRow).where(AnnotationRow.project_id == project_id)
        with self._session() as session:
            return session.execute(query).scalar_one()

    def annotated_tasks(self, project_id: int) -> set[int]:
        """Every task that has an annotation, of whatever kind."""
        query = select(AnnotationRow.task_id).where(AnnotationRow.project_id == project_id).distinct()
        with self._session() as session:
            return set(session.scalars(query))

    def annotations(self, project_id: int) -> list[Annotation]:
        """Every annotation, oldest change first."""
        query = (
            select(AnnotationRow)
            .where(AnnotationRow.project_id == project_id)
            .order_by(AnnotationRow.updated_at, AnnotationRow.id)
        )
        with self._session() as session:
            return [
                Annotation(
                    id=row.id,
                    task_id=row.task_id,
                    annotator=row.annotator,
                    choice=row.choice,
                    cancelled=row.cancelled,
                    updated_at=row.updated_at,
                    accepted=row.accepted,
                )
                for row in session.scalars(query)
            ]
