"""Pages of crops that people label at a glance: reserved for one person, confirmed in one transaction, undone."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from types import MappingProxyType
from uuid import uuid4

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from everylabel.backend.store.database import CLOCKS_DIFFER_SECONDS
from everylabel.backend.store.fast_pages import CONFIRMED, FastPageRecords
from everylabel.backend.store.page_labels import SENT, TAKE_BACK, TAKEN_BACK, UNSENT
from everylabel.backend.store.tables import LabelPageRow, PageLabelRow

RESERVED, UNDONE, RELEASED = "reserved", "undone", "released"
SUSPECTS, SECOND_LABELS = OF_LABELLED = ("suspects", "second-labels")
"""The kinds of pages of crops that have a label: to review it, or to add another's. All other pages are of crops without one."""
RESERVED_SECONDS = 1800.0
"""How long a page that is neither confirmed nor given back belongs to the person who was given it."""


@dataclass(frozen=True)
class Review:
    """A label that a person has reviewed."""

    label: str
    """The label in the person's own annotation, or else the crop's."""
    own: int | None
    """The person's own annotation of the crop; None where others alone have labelled it."""


@dataclass(frozen=True)
class LabelPage:
    """A page of crops, and the person it belongs to."""

    id: str
    project_id: int
    annotator: int
    kind: str
    class_name: str | None
    """The class that every crop of the page has from the start, by itself or with others; None where none is given."""
    tasks: tuple[int, ...]
    preset: Mapping[int, str | None]
    """The label that a crop has from the start, by task; None for one that was left out before an undo."""
    state: str
    reserved_at: float
    confirmed_at: float | None
    seconds: float | None
    too_fast: bool
    like: int | None = None
    """The task whose crop those of the page were chosen by, where they were."""


LEFT_OUT_SECONDS = 86_400.0
"""How long a crop that a person left out is on no other page of theirs."""

Choose = Callable[[set[int]], tuple[str | None, Sequence[int]]]
"""Chooses the class and the tasks of a page, given the tasks that are on other pages."""
Preset = Callable[[Sequence[int]], Mapping[int, str]]
"""Returns the label that each of these tasks has from the start."""


class LabelPages(FastPageRecords):
    """The part of the store that holds pages."""

    def reserve_page(
        self,
        project_id: int,
        annotator: int,
        kind: str,
        choose: Choose,
        like: int | None = None,
        preset: Preset | None = None,
    ) -> LabelPage | None:
        """Give a person a page; no crop of it is on anybody else's page, nor was it on another of theirs today.

        Args:
            project_id: The project.
            annotator: The person.
            kind: The kind of page.
            choose: Returns the class that its crops have from the start, and its tasks, given the tasks it cannot have.
            like: The task whose crop they are chosen by, if there is one.
            preset: Returns the labels that they have from the start; none if None.

        Returns:
            The page; None if `choose` finds no crop.
        """
        with self._writing(project_id) as session:
            taken = self._taken(session, project_id) | self._seen(session, project_id, annotator, kind)
            class_name, tasks = choose(taken)
            if not tasks:
                return None
            labels = {} if preset is None else dict(preset(tasks))
            page = self._reserve(session, project_id, annotator, kind, class_name, tasks, labels)
            page.like = like
            return _page(page)

    def page(self, project_id: int, annotator: int, page_id: str) -> LabelPage | None:
        """Return a page of this person's in this project; None if there is none."""
        with self._session() as session:
            row = session.get(LabelPageRow, page_id)
            mine = row is not None and (row.project_id, row.annotator) == (project_id, annotator)
            return _page(row) if mine and row is not None else None

    def resume_page(self, project_id: int, annotator: int, page_id: str) -> LabelPage | None:
        """Reserve a page of this person's again that was given back, or whose time is over.

        Returns:
            The page; None if it is not theirs, is confirmed, or a crop of it is labelled or on another page by now.
        """
        annotated = self.annotated_tasks(project_id)
        with self._writing(project_id) as session:
            row = session.get(LabelPageRow, page_id)
            if row is None or (row.project_id, row.annotator) != (project_id, annotator):
                return None
            now = self._clock()
            held = (
                row.state == RESERVED
                and now < row.reserved_until <= now + RESERVED_SECONDS + CLOCKS_DIFFER_SECONDS
            )
            if not held:
                taken = self._taken(session, project_id) | (set() if row.kind in OF_LABELLED else annotated)
                if row.state not in (RESERVED, RELEASED) or taken.intersection(json.loads(row.tasks)):
                    return None
            row.state, row.reserved_until = RESERVED, now + RESERVED_SECONDS
            return _page(row)

    def reserved_pages(self, project_id: int, annotator: int) -> list[LabelPage]:
        """Return the pages that this person has been given and not confirmed, the oldest first."""
        with self._session() as session:
            rows = session.scalars(
                select(LabelPageRow)
                .where(
                    LabelPageRow.project_id == project_id,
                    LabelPageRow.state == RESERVED,
                    LabelPageRow.annotator == annotator,
                    _is_held(self._clock()),
                )
                .order_by(LabelPageRow.reserved_at)
            )
            return [_page(row) for row in rows]

    def release_pages(self, project_id: int, annotator: int, pages: Collection[str] | None = None) -> None:
        """Give pages of this person's back, so that others may be given their crops; all of them if None."""
        with self._writing(project_id) as session:
            rows = session.scalars(
                select(LabelPageRow).where(
                    LabelPageRow.project_id == project_id,
                    LabelPageRow.state == RESERVED,
                    LabelPageRow.annotator == annotator,
                )
            )
            for row in rows:
                if pages is None or row.id in pages:
                    row.state = RELEASED

    def confirm_page(
        self,
        page: LabelPage,
        labels: Mapping[int, str],
        seconds: float,
        too_fast: Callable[[float, int], bool],
        reviews: Mapping[int, Review] = MappingProxyType({}),
    ) -> LabelPage:
        """Store the labels of a page, all or none; nothing happens if it is confirmed already.

        Args:
            page: The page.
            labels: The label of each task that has one.
            seconds: The time the person looked at it, by their browser. No page takes longer than since it was given
                to them, nor than since they confirmed the one before.
            too_fast: Returns whether so many seconds are too few for so many crops.
            reviews: What is reviewed, by task, where labels are.

        Returns:
            The page as it is stored now.
        """
        with self._writing(page.project_id) as session:
            row = session.get_one(LabelPageRow, page.id)
            if row.state in (CONFIRMED, UNDONE):
                return _page(row)
            now = self._clock()
            before = session.scalar(
                select(func.max(LabelPageRow.confirmed_at)).where(
                    LabelPageRow.project_id == page.project_id, LabelPageRow.annotator == page.annotator
                )
            )
            since = max(row.reserved_at, before or 0.0)
            # Where the clock was set back, what the browser says is all there is.
            row.seconds = max(0.0, min(seconds, now - since)) if since <= now else seconds
            # Later than the page before in any case: an undo takes the last one back.
            row.state, row.confirmed_at = CONFIRMED, max(now, (before or 0.0) + 1e-3)
            row.too_fast = bool(labels) and too_fast(row.seconds, len(page.tasks))
            given_at = datetime.fromtimestamp(now, timezone.utc).replace(tzinfo=None)
            for task in page.tasks:
                if task in labels:
                    session.add(
                        PageLabelRow(
                            page_id=page.id,
                            project_id=page.project_id,
                            task_id=task,
                            annotator=page.annotator,
                            label=labels[task],
                            given_at=given_at.isoformat(timespec="microseconds") + "Z",
                            lead_time=row.seconds / len(labels),
                            unique_id=str(uuid4()),
                            state=UNSENT,
                            reviews=None if task not in reviews else reviews[task].label,
                            replaces=None if task not in reviews else reviews[task].own,
                        )
                    )
            return _page(row)

    def undo_page(self, project_id: int, annotator: int, page_id: str | None = None) -> LabelPage | None:
        """Take back the labels of the page that this person confirmed last, and give it to them once more.

        What may have reached Label Studio is deleted there by the trainer.

        Args:
            project_id: The project.
            annotator: The person.
            page_id: The id of the new page. Asked for again with the same, nothing more is taken back.

        Returns:
            A new page with the same crops and the classes that were given; None if there is nothing to undo.
        """
        with self._writing(project_id) as session:
            if page_id is not None and (made := session.get(LabelPageRow, page_id)) is not None:
                return _page(made) if (made.project_id, made.annotator) == (project_id, annotator) else None
            row = session.scalars(
                select(LabelPageRow)
                .where(
                    LabelPageRow.project_id == project_id,
                    LabelPageRow.state == CONFIRMED,
                    LabelPageRow.annotator == annotator,
                )
                .order_by(LabelPageRow.confirmed_at.desc())
                .limit(1)
            ).first()
            if row is None:
                return None
            row.state = UNDONE
            tasks: list[int] = json.loads(row.tasks)
            preset = dict.fromkeys(tasks) | _taken_back(session, row.id)
            page = self._reserve(
                session, project_id, annotator, row.kind, row.class_name, tasks, preset, page_id
            )
            page.like = row.like
            return _page(page)

    def _taken(self, session: Session, project_id: int) -> set[int]:
        """Return the tasks of every page that is reserved, and of labels that are on their way."""
        reserved = session.scalars(
            select(LabelPageRow.tasks).where(
                LabelPageRow.project_id == project_id,
                LabelPageRow.state == RESERVED,
                _is_held(self._clock()),
            )
        )
        taken = {task for tasks in reserved for task in json.loads(tasks)}
        unsent = select(PageLabelRow.task_id).where(
            PageLabelRow.project_id == project_id, PageLabelRow.state == UNSENT
        )
        return taken.union(session.scalars(unsent))

    def _seen(self, session: Session, project_id: int, annotator: int, kind: str) -> set[int]:
        """Return the tasks of pages that this person confirmed in the last day: what they left out is not asked again.

        A suspect label may be one of another page of theirs.
        """
        is_review = LabelPageRow.kind == SUSPECTS
        now = self._clock()
        pages = session.scalars(
            select(LabelPageRow.tasks).where(
                LabelPageRow.project_id == project_id,
                LabelPageRow.state == CONFIRMED,
                LabelPageRow.annotator == annotator,
                LabelPageRow.confirmed_at > now - LEFT_OUT_SECONDS,
                LabelPageRow.confirmed_at < now + LEFT_OUT_SECONDS,
                is_review if kind == SUSPECTS else ~is_review,
            )
        )
        return {task for tasks in pages for task in json.loads(tasks)}

    def _reserve(
        self,
        session: Session,
        project_id: int,
        annotator: int,
        kind: str,
        class_name: str | None,
        tasks: Sequence[int],
        preset: Mapping[int, str | None],
        page_id: str | None = None,
    ) -> LabelPageRow:
        now = self._clock()
        row = LabelPageRow(
            id=page_id or uuid4().hex,
            project_id=project_id,
            annotator=annotator,
            kind=kind,
            class_name=class_name,
            tasks=json.dumps(list(tasks)),
            preset=json.dumps(dict(preset)),
            state=RESERVED,
            reserved_at=now,
            reserved_until=now + RESERVED_SECONDS,
            too_fast=False,
        )
        session.add(row)
        return row


def _taken_back(session: Session, page_id: str) -> dict[int, str | None]:
    """Have the labels of a page taken back, and return them."""
    labels = session.scalars(select(PageLabelRow).where(PageLabelRow.page_id == page_id)).all()
    for label in labels:
        if label.state in (SENT, UNSENT):
            label.state = TAKE_BACK if label.state == SENT or label.attempted else TAKEN_BACK
    return {label.task_id: label.label for label in labels}


def _is_held(now: float) -> ColumnElement[bool]:
    """Return the condition that a reserved page is not over; it is where the clock was set back by more than that."""
    until = LabelPageRow.reserved_until
    return and_(until > now, until <= now + RESERVED_SECONDS + CLOCKS_DIFFER_SECONDS)


def _page(row: LabelPageRow) -> LabelPage:
    return LabelPage(
        id=row.id,
        project_id=row.project_id,
        annotator=row.annotator,
        kind=row.kind,
        class_name=row.class_name,
        tasks=tuple(json.loads(row.tasks)),
        preset={int(task): label for task, label in json.loads(row.preset).items()},
        state=row.state,
        reserved_at=row.reserved_at,
        confirmed_at=row.confirmed_at,
        seconds=row.seconds,
        too_fast=row.too_fast,
        like=row.like,
    )
