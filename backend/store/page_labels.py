"""Labels of confirmed pages: kept from the confirmation until Label Studio has them, and taken back after an undo."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from operator import attrgetter

from sqlalchemy import func, select, update

from everylabel.backend.store.annotations import Annotation, Annotations
from everylabel.backend.store.database import chunks
from everylabel.backend.store.tables import PageLabelRow

UNSENT, SENT, LEFT_OUT = "unsent", "sent", "left out"
TAKE_BACK, TAKEN_BACK, KEPT = "take back", "taken back", "kept"
TO_DO = (UNSENT, TAKE_BACK)
"""The states of labels that the trainer still has something to do for."""


@dataclass(frozen=True)
class PageLabel:
    """A label of a confirmed page."""

    id: int
    page_id: str
    task_id: int
    annotator: int
    """The person who confirmed the page, by the number Label Studio knows them by."""
    label: str
    given_at: str
    """The time of the confirmation, as Label Studio writes times."""
    lead_time: float
    """Seconds: the page's time divided by its labels."""
    unique_id: str
    """A UUID under which Label Studio takes one annotation only, however often it is sent."""
    state: str
    attempted: bool
    """True once it may have reached Label Studio."""
    annotation_id: int | None
    reason: str | None
    """The reason why it was left out, or kept in spite of an undo."""
    reviews: str | None = None
    """The label that the crop had, where the person reviewed it: theirs stands beside those of others."""
    replaces: int | None = None
    """The person's own annotation that a review changes, where they have one."""
    former: str | None = None
    """That annotation's result before the change, as JSON: an undo puts it back."""


class PageLabels(Annotations):
    """The part of the store that holds labels of confirmed pages."""

    def annotations(self, project_id: int, since: float | None = None) -> list[Annotation]:
        """Return every annotation, or those submitted since a time, the oldest change first.

        Labels of confirmed pages that Label Studio does not have yet are among them, with ids below zero; those that
        an undo takes back are not.

        Args:
            project_id: The project.
            since: In seconds since 1970 by Label Studio's clock.
        """
        earliest = "" if since is None else datetime.fromtimestamp(since, timezone.utc).isoformat()
        waiting = [
            one for one in self.labels_to_do(project_id) if one.state == TAKE_BACK or one.given_at >= earliest
        ]
        return _with_waiting(self.mirrored_annotations(project_id, since), waiting)

    def annotations_of(self, project_id: int, task_ids: Collection[int]) -> list[Annotation]:
        """Return every annotation of these tasks, as `annotations` does of all."""
        waiting: list[PageLabel] = []
        for some in chunks([*task_ids]):
            waiting += self._labels(
                PageLabelRow.project_id == project_id,
                PageLabelRow.state.in_(TO_DO),
                PageLabelRow.task_id.in_(some),
            )
        return _with_waiting(self.mirrored_annotations_of(project_id, task_ids), waiting)

    def annotated_tasks(self, project_id: int) -> set[int]:
        """Return every task that has an annotation of any kind, or a label on its way to Label Studio."""
        unsent = select(PageLabelRow.task_id).where(
            PageLabelRow.project_id == project_id, PageLabelRow.state == UNSENT
        )
        with self._session() as session:
            return super().annotated_tasks(project_id) | set(session.scalars(unsent))

    def projects_with_labels_to_do(self) -> list[int]:
        """Return the projects of which a label has to be sent or taken back."""
        query = select(PageLabelRow.project_id).where(PageLabelRow.state.in_(TO_DO)).distinct()
        with self._session() as session:
            return sorted(session.scalars(query))

    def labels_to_do(self, project_id: int) -> list[PageLabel]:
        """Return the labels that have to be sent or taken back, in the order in which they were given."""
        return self._labels(PageLabelRow.project_id == project_id, PageLabelRow.state.in_(TO_DO))

    def labels_of_page(self, page_id: str) -> list[PageLabel]:
        """Return the labels of a confirmed page."""
        return self._labels(PageLabelRow.page_id == page_id)

    def kept_reviews(self, project_id: int) -> dict[int, str]:
        """Return the labels that people have reviewed and left as they are, by task."""
        query = select(PageLabelRow.task_id, PageLabelRow.label).where(
            PageLabelRow.project_id == project_id,
            PageLabelRow.reviews == PageLabelRow.label,
            PageLabelRow.state.in_((UNSENT, SENT)),
        )
        with self._session() as session:
            return {row.task_id: row.label for row in session.execute(query.order_by(PageLabelRow.id))}

    def troubled_labels(self, project_id: int, annotator: int, since: float) -> list[PageLabel]:
        """Return this person's labels that did not become annotations, or stayed in spite of an undo.

        Args:
            project_id: The project.
            annotator: The person.
            since: Only labels given since then, in seconds since 1970.
        """
        earliest = datetime.fromtimestamp(since, timezone.utc).isoformat()
        return self._labels(
            PageLabelRow.project_id == project_id,
            PageLabelRow.state.in_((LEFT_OUT, KEPT)),
            PageLabelRow.annotator == annotator,
            PageLabelRow.given_at >= earliest,
        )

    def count_labels(self, project_id: int, annotator: int, states: Iterable[str]) -> int:
        """Return how many labels of a person's pages are in one of these states."""
        query = select(func.count()).where(
            PageLabelRow.project_id == project_id,
            PageLabelRow.annotator == annotator,
            PageLabelRow.state.in_([*states]),
        )
        with self._session() as session:
            return session.execute(query).scalar_one()

    def begin_attempt(self, project_id: int, label_id: int, former: str | None = None) -> bool:
        """Record that a label may reach Label Studio from now on; return False if it was undone meanwhile.

        Args:
            project_id: The project.
            label_id: The label.
            former: The result of the annotation that it changes, as JSON.
        """
        wanted = update(PageLabelRow).where(PageLabelRow.id == label_id, PageLabelRow.state == UNSENT)
        with self._writing(project_id) as session:
            done = session.execute(wanted.values(attempted=True, former=former))
            return bool(done.rowcount)  # type: ignore[attr-defined]

    def finish_label(
        self,
        project_id: int,
        label: PageLabel,
        state: str,
        annotation_id: int | None = None,
        reason: str | None = None,
    ) -> None:
        """Record what became of a label; one that was undone meanwhile is still to be taken back.

        Args:
            project_id: The project.
            label: The label, as it was when the work on it began.
            state: `SENT`, `LEFT_OUT`, `TAKEN_BACK` or `KEPT`.
            annotation_id: Its annotation in Label Studio.
            reason: The reason, where it was left out or kept.
        """
        with self._writing(project_id) as session:
            row = session.get(PageLabelRow, label.id)
            if row is None:
                return
            if annotation_id is not None:
                row.annotation_id = annotation_id
            if row.state == label.state:
                row.state, row.reason = state, reason

    def _labels(self, *conditions: object) -> list[PageLabel]:
        query = select(PageLabelRow).where(*conditions).order_by(PageLabelRow.id)  # type: ignore[arg-type]
        with self._session() as session:
            return [page_label(row) for row in session.scalars(query)]


def _with_waiting(mirrored: list[Annotation], waiting: Iterable[PageLabel]) -> list[Annotation]:
    """Return annotations of Label Studio's with the labels that wait to be sent, and without those to be taken back."""
    waiting = list(waiting)
    if not waiting:
        return mirrored
    gone = {label.annotation_id for label in waiting if label.state == TAKE_BACK and not label.replaces}
    gone |= {label.replaces for label in waiting if label.state == UNSENT}
    unsent = [
        Annotation(-one.id, one.task_id, one.annotator, one.label, False, one.given_at)
        for one in waiting
        if one.state == UNSENT
    ]
    kept = [annotation for annotation in mirrored if annotation.id not in gone]
    return sorted([*kept, *unsent], key=attrgetter("updated_at"))


def page_label(row: PageLabelRow) -> PageLabel:
    """Return a row as a label."""
    return PageLabel(
        id=row.id,
        page_id=row.page_id,
        task_id=row.task_id,
        annotator=row.annotator,
        label=row.label,
        given_at=row.given_at,
        lead_time=row.lead_time,
        unique_id=row.unique_id,
        state=row.state,
        attempted=row.attempted,
        annotation_id=row.annotation_id,
        reason=row.reason,
        reviews=row.reviews,
        replaces=row.replaces,
        former=row.former,
    )
