"""Annotations as Label Studio holds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from sqlalchemy import delete, func, select

from everylabel.backend.store.database import chunks
from everylabel.backend.store.deletions import Deletions
from everylabel.backend.store.tables import AnnotationRow


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
    former: str | None = field(default=None, compare=False)
    """The choice it held before it became empty by an update; None while it holds one. Label Studio does not know it."""
    opened_at: float | None = field(default=None, compare=False)
    """When the form was opened that made it, in seconds since 1970 by Label Studio's clock; None where it is not known."""

    def after(self, held: Annotation | None) -> Annotation:
        """Return this version as the successor of `held`: an empty one remembers the choice it replaces."""
        if self.choice is not None or held is None:
            return self
        return replace(self, former=held.choice if held.choice is not None else held.former)


class Annotations(Deletions):
    """The part of the store that holds annotations."""

    def save_annotations(
        self, project_id: int, annotations: Iterable[Annotation], *, as_read: bool = False
    ) -> None:
        """Add or update annotations.

        An older version never replaces a newer one, and a deleted annotation stays deleted.

        Args:
            project_id: the project.
            annotations: as webhooks bring them, in any order.
            as_read: they were just read from Label Studio, so they are current whatever their age.
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
                new = annotation.after(None if row is None else _annotation(row))
                if row is None:
                    row = AnnotationRow(project_id=project_id, id=annotation.id)
                    session.add(row)
                elif row.updated_at > annotation.updated_at and not as_read:
                    if row.choice is None and row.former is None:
                        row.former = annotation.choice  # webhooks come in any order
                    continue
                row.task_id = new.task_id
                row.annotator = new.annotator
                row.choice = new.choice
                row.cancelled = new.cancelled
                row.updated_at = new.updated_at
                row.accepted = new.accepted
                row.former = new.former
                # Label Studio adds the time of later changes to the first: only that says when the form was opened.
                row.opened_at = new.opened_at if row.opened_at is None else row.opened_at

    def delete_annotations(self, project_id: int, annotation_ids: Iterable[int]) -> None:
        """Delete annotations by their id, which is all that Label Studio says about a deletion."""
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
        """Return how many annotations a project has."""
        query = select(func.count()).select_from(AnnotationRow).where(AnnotationRow.project_id == project_id)
        with self._session() as session:
            return session.execute(query).scalar_one()

    def annotated_tasks(self, project_id: int) -> set[int]:
        """Return every task that has an annotation of any kind in Label Studio."""
        query = select(AnnotationRow.task_id).where(AnnotationRow.project_id == project_id).distinct()
        with self._session() as session:
            return set(session.scalars(query))

    def mirrored_annotations_of(self, project_id: int, task_ids: Iterable[int]) -> list[Annotation]:
        """Return every annotation of these tasks in Label Studio, the oldest change first."""
        query = select(AnnotationRow).where(AnnotationRow.project_id == project_id)
        with self._session() as session:
            found = [
                _annotation(row)
                for ids in chunks(task_ids)
                for row in session.scalars(query.where(AnnotationRow.task_id.in_(ids)))
            ]
        return sorted(found, key=lambda one: (one.updated_at, one.id))

    def mirrored_annotations(self, project_id: int, since: float | None = None) -> list[Annotation]:
        """Return every annotation of Label Studio, or those submitted since a time, the oldest change first.

        Args:
            project_id: the project.
            since: in seconds since 1970 by Label Studio's clock.
        """
        earliest = "" if since is None else datetime.fromtimestamp(since, timezone.utc).isoformat()
        query = (
            select(AnnotationRow)
            .where(AnnotationRow.project_id == project_id, AnnotationRow.updated_at >= earliest)
            .order_by(AnnotationRow.updated_at, AnnotationRow.id)
        )
        with self._session() as session:
            return [_annotation(row) for row in session.scalars(query)]


def submitted_at(at: str) -> float | None:
    """Convert a time as Label Studio writes it to seconds since 1970; None if it is not a time."""
    try:
        return datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def _annotation(row: AnnotationRow) -> Annotation:
    return Annotation(
        id=row.id,
        task_id=row.task_id,
        annotator=row.annotator,
        choice=row.choice,
        cancelled=row.cancelled,
        updated_at=row.updated_at,
        accepted=row.accepted,
        former=row.former,
        opened_at=row.opened_at,
    )
