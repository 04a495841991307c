"""Deletions in Label Studio: webhooks come late and out of order, and must not bring back what was deleted.

Label Studio never reuses an id, so that what is deleted stays so; only reading Label Studio itself says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from everylabel.backend.store.database import Database, chunks
from everylabel.backend.store.tables import DeletedRow

REMEMBERED_SECONDS = 86_400.0
"""How long a deletion is remembered; no webhook is that late."""

Kind = Literal["task", "annotation"]


class Deletions(Database):
    """The part of the store that remembers deletions."""

    def forget_old_deletions(self, project_id: int) -> None:
        """Delete the records that no late webhook can need any more."""
        with self._writing(project_id) as session:
            old = DeletedRow.deleted_at < self._clock() - REMEMBERED_SECONDS
            session.execute(delete(DeletedRow).where(DeletedRow.project_id == project_id, old))

    def _remember_deleted(self, session: Session, project_id: int, kind: Kind, ids: Iterable[int]) -> None:
        for id_ in ids:
            session.merge(DeletedRow(project_id=project_id, kind=kind, id=id_, deleted_at=self._clock()))

    def _deleted(self, session: Session, project_id: int, kind: Kind, ids: Iterable[int]) -> set[int]:
        """Return those of the ids that are deleted."""
        of_kind = select(DeletedRow.id).where(DeletedRow.project_id == project_id, DeletedRow.kind == kind)
        return {
            id_ for some in chunks(ids) for id_ in session.scalars(of_kind.where(DeletedRow.id.in_(some)))
        }

    def _exists_again(self, session: Session, project_id: int, kind: Kind, ids: Iterable[int]) -> None:
        for some in chunks(ids):
            session.execute(
                delete(DeletedRow).where(
                    DeletedRow.project_id == project_id, DeletedRow.kind == kind, DeletedRow.id.in_(some)
                )
            )
