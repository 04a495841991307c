"""The backend's memory: projects, tasks, annotations, events and rounds in one SQL database.

SQLite in WAL mode by default; nothing here is particular to it. Embeddings and models are files beside it
(`backend/project_files.py`). Every method is one transaction: a crash leaves all of it or nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import create_engine, delete, event, func, insert, select, text, update
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, sessionmaker

from backend.tables import AnnotationRow, Base, EventRow, ProjectRow, RoundRow, TaskRow

ROUNDS_KEPT = 2000
CHUNK = 500  # ids in one statement: every database takes that many parameters


@dataclass(frozen=True)
class Project:
    """A Label Studio project the backend knows."""

    id: int
    label_config: str
    encoder: str
    connected: bool
    """`everylabel connect` has set it up: rounds are published into it."""
    problem: str | None
    reconciled_at: float | None
    model_round: int | None
    """The round whose model answers `/predict` and pre-fills; None before there is one."""
    model_pinned: bool
    """A person has rolled back to that round: new ones are not promoted."""
    check_tasks: tuple[int, ...]
    """Every task ever drawn for the blind check set, in the order drawn."""


@dataclass(frozen=True)
class Task:
    """A Label Studio task and where its crop's embedding lies."""

    id: int
    image_url: str | None
    embedding_row: int | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Annotation:
    """One annotation as Label Studio holds it; `choice` is None where it picks no single class."""

    id: int
    task_id: int
    annotator: int | None
    choice: str | None
    cancelled: bool
    updated_at: str


@dataclass(frozen=True)
class Event:
    """A webhook that has been received and not yet been worked in."""

    id: int
    action: str
    payload: dict[str, Any]


@dataclass(frozen=True)
class RoundRecord:
    """A finished round as it is kept: task ids and figures, no arrays."""

    number: int
    model_version: str
    n_labels: int
    classes: tuple[str, ...]
    threshold: float
    check: tuple[int, ...]
    batch: tuple[int, ...]
    pre_annotated: tuple[int, ...]
    flagged: tuple[int, ...]
    check_set: dict[str, float] | None
    seconds: dict[str, float]
    finished_at: float
    promoted: bool = True
    """Whether its model came into use: it was not clearly worse on the check set than the one before."""
    stopping: dict[str, Any] | None = None
    """Advice on whether more labels are worth a person's time: `stop`, `reason`, `kappa`."""
    published_at: float | None = None

    @property
    def queue(self) -> tuple[int, ...]:
        """The tasks a person is asked to label, in order: blind check crops, then the batch."""
        return self.check + self.batch


class Store:
    """The backend's memory in one SQL database.

    Safe to share between threads; several processes may open the same database.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._engine = _engine(url)
        with self._engine.begin() as connection:
            if self._engine.dialect.name == "sqlite":
                # The web server and the trainer start together: one makes the tables, the other finds them.
                connection.execute(text("BEGIN IMMEDIATE"))
            Base.metadata.create_all(connection)
        self._session = sessionmaker(self._engine, expire_on_commit=False)

    def close(self) -> None:
        """Give every connection back."""
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        """One transaction that writes.

        SQLite takes its write lock only at the first write. Taken at the start, what is read in the
        transaction still holds when it writes, also with two processes at work.
        """
        with self._session.begin() as session:
            if self._engine.dialect.name == "sqlite":
                session.execute(text("BEGIN IMMEDIATE"))
            yield session

    # --- projects

    def project(self, project_id: int) -> Project | None:
        """One project, or None where it is unknown."""
        with self._session() as session:
            row = session.get(ProjectRow, project_id)
            return None if row is None else _project(row)

    def projects(self) -> list[Project]:
        """Every project known, by id."""
        with self._session() as session:
            return [_project(row) for row in session.scalars(select(ProjectRow).order_by(ProjectRow.id))]

    def save_project(self, project_id: int, **changes: Any) -> None:
        """Create or change a project; names are those of `Project`."""
        if "check_tasks" in changes:
            changes["check_tasks"] = json.dumps(list(changes["check_tasks"]))
        with self._writing() as session:
            row = session.get(ProjectRow, project_id)
            if row is None:
                session.add(ProjectRow(id=project_id, **changes))
            else:
                for name, value in changes.items():
                    setattr(row, name, value)

    def delete_project(self, project_id: int) -> None:
        """Forget a project and everything that belongs to it."""
        with self._writing() as session:
            for table in (TaskRow, AnnotationRow, RoundRow, EventRow):
                session.execute(delete(table).where(table.project_id == project_id))
            session.execute(delete(ProjectRow).where(ProjectRow.id == project_id))

    # --- tasks

    def save_tasks(self, project_id: int, tasks: Iterable[Task]) -> None:
        """Add tasks; one that is known keeps its embedding and its problem unless its image has changed."""
        tasks = list(tasks)
        with self._writing() as session:
            known = {
                row.id: row.image_url for row in _select_tasks(session, project_id, (t.id for t in tasks))
            }
            new: dict[int, Task] = {}
            for task in tasks:
                if task.id not in known:
                    new[task.id] = task
                elif known[task.id] != task.image_url:
                    session.execute(
                        update(TaskRow)
                        .where(TaskRow.project_id == project_id, TaskRow.id == task.id)
                        .values(image_url=task.image_url, embedding_row=None, problem=task.problem)
                    )
            rows = [
                {"project_id": project_id, "id": t.id, "image_url": t.image_url, "problem": t.problem}
                for t in new.values()
            ]
            if rows:
                session.execute(insert(TaskRow), rows)

    def delete_tasks(self, project_id: int, task_ids: Iterable[int]) -> None:
        """Forget tasks and their annotations."""
        with self._writing() as session:
            for ids in _chunks(task_ids):
                session.execute(delete(TaskRow).where(TaskRow.project_id == project_id, TaskRow.id.in_(ids)))
                session.execute(
                    delete(AnnotationRow).where(
                        AnnotationRow.project_id == project_id, AnnotationRow.task_id.in_(ids)
                    )
                )

    def tasks(self, project_id: int, task_ids: Iterable[int] | None = None) -> list[Task]:
        """Tasks by id: all of them, or those asked for that are known."""
        query = select(TaskRow).where(TaskRow.project_id == project_id).order_by(TaskRow.id)
        with self._session() as session:
            if task_ids is None:
                return [_task(row) for row in session.scalars(query)]
            return [
                _task(row)
                for ids in _chunks(task_ids)
                for row in session.scalars(query.where(TaskRow.id.in_(ids)))
            ]

    def count_tasks(self, project_id: int) -> dict[str, int]:
        """How many crops are `embedded`, `missing` (not looked at yet) and `unreadable`."""
        query = select(func.count(TaskRow.embedding_row), func.count(TaskRow.problem), func.count())
        with self._session() as session:
            embedded, unreadable, all_tasks = session.execute(
                query.where(TaskRow.project_id == project_id)
            ).one()
        return {
            "embedded": embedded,
            "unreadable": unreadable,
            "missing": max(0, all_tasks - embedded - unreadable),
        }

    def tasks_to_embed(self, project_id: int) -> list[Task]:
        """Tasks whose crop has not been looked at yet, by id."""
        query = select(TaskRow).where(
            TaskRow.project_id == project_id, TaskRow.embedding_row.is_(None), TaskRow.problem.is_(None)
        )
        with self._session() as session:
            return [_task(row) for row in session.scalars(query.order_by(TaskRow.id))]

    def save_embedded(self, project_id: int, rows: Mapping[int, int]) -> None:
        """Record in which row of the embedding file each task's crop lies."""
        self._update_tasks(
            project_id, [(id_, {"embedding_row": row, "problem": None}) for id_, row in rows.items()]
        )

    def save_problems(self, project_id: int, problems: Mapping[int, str]) -> None:
        """Record why each of these tasks' crops cannot be read."""
        self._update_tasks(project_id, [(id_, {"problem": why}) for id_, why in problems.items()])

    def forget_embeddings(self, project_id: int, encoder: str) -> None:
        """Start anew with another encoder: every crop is to be embedded again."""
        with self._writing() as session:
            session.execute(
                update(TaskRow)
                .where(TaskRow.project_id == project_id, TaskRow.image_url.is_not(None))
                .values(embedding_row=None, problem=None)
            )
            session.execute(update(ProjectRow).where(ProjectRow.id == project_id).values(encoder=encoder))

    def forget_problems(self, project_id: int) -> None:
        """Let every crop that could not be read be tried again; a task without an image stays one."""
        with self._writing() as session:
            session.execute(
                update(TaskRow)
                .where(
                    TaskRow.project_id == project_id,
                    TaskRow.problem.is_not(None),
                    TaskRow.image_url.is_not(None),
                )
                .values(problem=None)
            )

    def _update_tasks(self, project_id: int, changes: Sequence[tuple[int, dict[str, Any]]]) -> None:
        if not changes:
            return
        rows = [{"project_id": project_id, "id": id_, **values} for id_, values in changes]
        with self._writing() as session:
            known = {row.id for row in _select_tasks(session, project_id, [id_ for id_, _ in changes])}
            session.execute(update(TaskRow), [row for row in rows if row["id"] in known])

    # --- annotations

    def save_annotations(
        self, project_id: int, annotations: Iterable[Annotation], *, as_read: bool = False
    ) -> None:
        """Add or update annotations; an older version of one never replaces a newer one.

        Args:
            project_id: the project.
            annotations: as webhooks bring them, in any order.
            as_read: they were just read from Label Studio, so they hold whatever their age says.
        """
        with self._writing() as session:
            for annotation in annotations:
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

    def delete_annotations(self, project_id: int, annotation_ids: Iterable[int]) -> None:
        """Forget annotations by their id: all that Label Studio says about a deletion."""
        with self._writing() as session:
            for ids in _chunks(annotation_ids):
                session.execute(
                    delete(AnnotationRow).where(
                        AnnotationRow.project_id == project_id, AnnotationRow.id.in_(ids)
                    )
                )

    def annotations(self, project_id: int) -> list[Annotation]:
        """Every annotation, oldest change first."""
        query = (
            select(AnnotationRow)
            .where(AnnotationRow.project_id == project_id)
            .order_by(AnnotationRow.updated_at, AnnotationRow.id)
        )
        with self._session() as session:
            return [
                Annotation(row.id, row.task_id, row.annotator, row.choice, row.cancelled, row.updated_at)
                for row in session.scalars(query)
            ]

    # --- events

    def add_event(self, project_id: int, action: str, payload: Mapping[str, Any]) -> int:
        """Put a webhook on disk; returns its number."""
        with self._writing() as session:
            row = EventRow(
                project_id=project_id, action=action, payload=json.dumps(payload), received_at=self._clock()
            )
            session.add(row)
            session.flush()
            return row.id

    def events(self, project_id: int | None = None) -> list[Event]:
        """Webhooks not yet worked in, in the order they came."""
        query = select(EventRow).order_by(EventRow.id)
        if project_id is not None:
            query = query.where(EventRow.project_id == project_id)
        with self._session() as session:
            return [Event(row.id, row.action, json.loads(row.payload)) for row in session.scalars(query)]

    def projects_with_events(self) -> list[int]:
        """Projects that have webhooks waiting."""
        with self._session() as session:
            return list(session.scalars(select(EventRow.project_id).distinct()))

    def delete_events(self, event_ids: Iterable[int]) -> None:
        """Drop webhooks whose content is in the tables above."""
        with self._writing() as session:
            for ids in _chunks(event_ids):
                session.execute(delete(EventRow).where(EventRow.id.in_(ids)))

    def events_waiting(self) -> tuple[int, float | None]:
        """How many webhooks wait, and when the oldest came (seconds since the epoch)."""
        with self._session() as session:
            count, oldest = session.execute(select(func.count(), func.min(EventRow.received_at))).one()
            return count, oldest

    # --- rounds

    def save_round(self, project_id: int, record: RoundRecord, check_tasks: Sequence[int]) -> None:
        """Keep a finished round and the check draws it was made with."""
        fields = {name: getattr(record, name) for name in _RECORD_FIELDS}
        with self._writing() as session:
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
            values: dict[str, Any] = {"check_tasks": json.dumps(list(check_tasks))}
            if record.promoted:
                values["model_round"] = record.number if len(record.classes) > 1 else None
            session.execute(update(ProjectRow).where(ProjectRow.id == project_id).values(**values))

    def mark_published(self, project_id: int, number: int) -> None:
        """Record that Label Studio's queue now is this round's."""
        with self._writing() as session:
            session.execute(
                update(RoundRow)
                .where(RoundRow.project_id == project_id, RoundRow.number == number)
                .values(published_at=self._clock())
            )

    def rounds(self, project_id: int) -> list[RoundRecord]:
        """Every round, oldest first."""
        query = select(RoundRow).where(RoundRow.project_id == project_id).order_by(RoundRow.number)
        with self._session() as session:
            return [_round(row) for row in session.scalars(query)]

    def round(self, project_id: int, number: int) -> RoundRecord | None:
        """One round, or None where there is none of this number."""
        with self._session() as session:
            row = session.get(RoundRow, (project_id, number))
            return None if row is None else _round(row)

    def latest_round(self, project_id: int) -> RoundRecord | None:
        """The newest round, or None before the first."""
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
    "n_labels",
    "classes",
    "threshold",
    "check",
    "batch",
    "pre_annotated",
    "flagged",
    "check_set",
    "seconds",
    "promoted",
    "stopping",
)


def _engine(url: str) -> Engine:
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _set_pragmas(connection: Any, _record: Any) -> None:
            cursor = connection.cursor()
            # WAL: the web process answers while the trainer writes.
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA busy_timeout=30000")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.close()

    return engine


def _select_tasks(session: Session, project_id: int, task_ids: Iterable[int]) -> Iterable[TaskRow]:
    for ids in _chunks(task_ids):
        yield from session.scalars(
            select(TaskRow).where(TaskRow.project_id == project_id, TaskRow.id.in_(ids))
        )


def _chunks(ids: Iterable[int]) -> Iterable[list[int]]:
    ids = list(ids)
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


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
    )


def _task(row: TaskRow) -> Task:
    return Task(row.id, row.image_url, row.embedding_row, row.problem)


def _round(row: RoundRow) -> RoundRecord:
    fields = json.loads(row.record)
    for name in ("classes", "check", "batch", "pre_annotated", "flagged"):
        fields[name] = tuple(fields[name])
    return RoundRecord(
        number=row.number, finished_at=row.finished_at, published_at=row.published_at, **fields
    )
