"""Pages that people confirmed faster than anybody can look at them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from everylabel.backend.store.page_labels import PageLabels
from everylabel.backend.store.tables import LabelPageRow, PageLabelRow

CONFIRMED = "confirmed"


@dataclass(frozen=True)
class FastPages:
    """Pages that a person confirmed faster than anybody can look at them."""

    annotator: int
    pages: int
    crops: int
    """The labels on those pages."""
    shortest: float
    """Seconds: the shortest time of such a page."""


class FastPageRecords(PageLabels):
    """The part of the store that knows pages which nobody can have looked at."""

    def fast_pages(self, project_id: int) -> list[FastPages]:
        """Return who confirmed pages faster than anybody can look at them, and how many."""
        labels = select(func.count()).where(PageLabelRow.page_id == LabelPageRow.id).scalar_subquery()
        query = (
            select(LabelPageRow.annotator, func.count(), func.sum(labels), func.min(LabelPageRow.seconds))
            .where(
                LabelPageRow.project_id == project_id,
                LabelPageRow.state == CONFIRMED,
                LabelPageRow.too_fast,
            )
            .group_by(LabelPageRow.annotator)
            .order_by(LabelPageRow.annotator)
        )
        with self._session() as session:
            return [
                FastPages(who, pages, int(crops or 0), float(shortest or 0.0))
                for who, pages, crops, shortest in session.execute(query)
            ]
