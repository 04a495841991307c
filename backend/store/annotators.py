"""The names of the people who annotate, as Label Studio last gave them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select

from everylabel.backend.store.database import Database
from everylabel.backend.store.tables import AnnotationRow, AnnotatorRow


@dataclass(frozen=True)
class Annotator:
    """A Label Studio user who may have annotated; `name` or `email` is empty where Label Studio has none."""

    id: int
    name: str
    email: str


class Annotators(Database):
    """The part of the store that holds annotators, who belong to no project: Label Studio's users are shared."""

    def save_annotators(self, annotators: Iterable[Annotator]) -> None:
        """Add annotators, or replace what is known of them."""
        with self._writing() as session:
            for found in annotators:
                session.merge(AnnotatorRow(id=found.id, name=found.name, email=found.email))

    def annotators(self) -> list[Annotator]:
        """Return every annotator whose name has been read, by id."""
        with self._session() as session:
            rows = session.scalars(select(AnnotatorRow).order_by(AnnotatorRow.id))
            return [Annotator(row.id, row.name, row.email) for row in rows]

    def unnamed_annotators(self) -> set[int]:
        """Return the ids of those who have annotated in any project and whose name has not been read."""
        query = (
            select(AnnotationRow.annotator)
            .where(AnnotationRow.annotator.is_not(None))
            .where(AnnotationRow.annotator.not_in(select(AnnotatorRow.id)))
            .distinct()
        )
        with self._session() as session:
            return {found for found in session.scalars(query) if found is not None}
