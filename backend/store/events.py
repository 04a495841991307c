"""The inbox, a database of its own: webhooks that were received and not yet handled.

Label Studio waits for a webhook inside the annotator's own click. So nothing it waits for is shared with the
trainer but this one file, whose transactions are all short; and webhooks that come together share one commit,
because waiting for the disk costs more than all the rest. In PostgreSQL, whose writers do not wait for each
other, it is a table beside the others.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from everylabel.backend.store.changes import Changes
from everylabel.backend.store.database import Database, StorageError, chunks, waited
from everylabel.backend.store.tables import EventRow, InboxBase

log = logging.getLogger(__name__)

LOG_PAGES = 4000
"""Pages of 4 KB the write-ahead log grows to before a webhook itself folds it back: where no trainer runs."""


@dataclass(frozen=True)
class Event:
    """A webhook that was received and not yet handled."""

    id: int
    action: str
    payload: dict[str, Any]


class Events(Database):
    """The part of the store that holds webhooks."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__(url, clock)
        inbox = _inbox(url)
        self._inbox = Database(inbox, clock, InboxBase, {"wal_autocheckpoint": LOG_PAGES})
        # A webhook that a power cut brings back is worked in once more, which changes nothing: no waiting for
        # the disk with the file locked. And the log is folded back by the trainer, which nobody waits for.
        swift = {"synchronous": "NORMAL", "wal_autocheckpoint": LOG_PAGES // 20}
        self._worked_in = Database(inbox, clock, InboxBase, swift) if inbox != url else self._inbox
        self._changes = [Changes(address) for address in dict.fromkeys([url, inbox])]
        self._medium = "disk" if inbox != url else "database"
        self._waiting: deque[tuple[dict[str, Any], Future[int]]] = deque()
        self._committing = threading.Lock()
        self.damaged_events = 0
        """Webhooks that this process could not read and left out."""

    def close(self) -> None:
        """Close every connection."""
        for database in (self._inbox, self._worked_in):
            database.close()
        for changes in self._changes:
            changes.close()
        super().close()

    def has_changed(self) -> bool:
        """Return whether anything may have been written since the last call, webhooks included; for one thread alone."""
        changed = [changes.since_last_look() for changes in self._changes]  # each has to look
        return any(changed)

    def add_event(self, project_id: int, action: str, payload: Mapping[str, Any]) -> int:
        """Write a webhook to disk, together with those of other threads that wait, and return its number.

        Raises:
            StorageError: it could not be written.
        """
        row = {"project_id": project_id, "action": action, "received_at": self._clock()}
        number: Future[int] = Future()
        self._waiting.append(({**row, "payload": json.dumps(payload)}, number))
        with self._committing:
            if not number.done():
                self._commit_waiting()
        try:
            return number.result()
        except DBAPIError as error:
            raise StorageError(
                f"This webhook is not stored, because the backend's {self._medium} does not accept it ({error.orig}). "
                "Its label will be read from Label Studio once it does again."
            ) from error

    def _commit_waiting(self) -> None:
        """Write all waiting webhooks in one transaction: it succeeds or fails for all of them."""
        together = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            with self._inbox._writing() as session:
                numbers = [session.execute(_INSERT, row).scalar_one() for row, _ in together]
        except BaseException as error:  # noqa: BLE001 - handed on to everyone who waits for this write
            for _, number in together:
                number.set_exception(error)
        else:
            for (_, number), given in zip(together, numbers, strict=True):
                number.set_result(given)

    def events(self, project_id: int | None = None) -> list[Event]:
        """Return the webhooks that are not yet handled, in the order they came."""
        query = select(EventRow).order_by(EventRow.id)
        if project_id is not None:
            query = query.where(EventRow.project_id == project_id)
        with self._inbox._session() as session:
            rows = [(row.id, row.action, row.payload) for row in session.scalars(query)]
        found = [Event(id_, action, body) for id_, action, text in rows if (body := _body(text)) is not None]
        if len(found) < len(rows):
            read = {event.id for event in found}
            self._drop_damaged([id_ for id_, _, _ in rows if id_ not in read])
        return found

    def _drop_damaged(self, event_ids: list[int]) -> None:
        """Delete webhooks that cannot be read and would be retried for ever; a comparison brings their labels."""
        self.damaged_events += len(event_ids)
        log.error("%d webhooks were damaged on disk and are left out", len(event_ids))
        self.delete_events(event_ids)

    def projects_with_events(self) -> list[int]:
        """Return the projects that have webhooks waiting."""
        with self._inbox._session() as session:
            return list(session.scalars(select(EventRow.project_id).distinct()))

    def projects_with_events_of_one_kind(self, action: str) -> set[int]:
        """Return the projects in which webhooks wait, and none but of this action."""
        alone = (func.min(EventRow.action) == action, func.max(EventRow.action) == action)
        with self._inbox._session() as session:
            return set(
                session.scalars(select(EventRow.project_id).group_by(EventRow.project_id).having(*alone))
            )

    def delete_events(self, event_ids: Iterable[int]) -> None:
        """Delete webhooks whose content is in the other tables."""
        with self._worked_in._writing() as session:
            for ids in chunks(event_ids):
                session.execute(delete(EventRow).where(EventRow.id.in_(ids)))

    def forget_events(self, project_id: int) -> None:
        """Delete every webhook of a project."""
        with self._worked_in._writing() as session:
            session.execute(delete(EventRow).where(EventRow.project_id == project_id))

    def events_waiting(self, project_id: int | None = None) -> tuple[int, float]:
        """Return how many webhooks wait, and for how many seconds the oldest has; 0 where there is none."""
        query = select(func.count(), func.min(EventRow.received_at))
        if project_id is not None:
            query = query.where(EventRow.project_id == project_id)
        with self._inbox._session() as session:
            count, oldest = session.execute(query).one()
            return count, 0.0 if oldest is None else waited(oldest, self._clock())


_INSERT = insert(EventRow).returning(EventRow.id)


def _body(text: str) -> dict[str, Any] | None:
    """Parse the stored body of a webhook; None if it is damaged."""
    try:
        body = json.loads(text)
    except (ValueError, TypeError):
        return None
    return body if isinstance(body, dict) else None


def _inbox(url: str) -> str:
    """Return the address of the inbox: with SQLite, whose writers wait for each other, a file of its own."""
    address = make_url(url)
    if address.get_backend_name() != "sqlite" or not address.database:
        return url
    return f"{url.removesuffix('.db')}-inbox.db"
