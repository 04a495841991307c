"""Names of annotators: read from Label Studio by the trainer, kept in the store, shown on the page and by commands.

Whoever shows a name reads the store alone, and so never waits for Label Studio. Names are written to no log.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.backend.label_studio.request_bodies import is_id
from everylabel.backend.store import Annotator, Store

log = logging.getLogger(__name__)

REFRESH_SECONDS = 3600.0
"""How often names are read again: people change them, and Label Studio hides those of users who are removed."""
RETRY_SECONDS = 60.0
"""How long after a failure names are asked for again."""
LONGEST_NAME = 100


class AnnotatorNames:
    """Keep the store's names of annotators up to date.

    Args:
        store: where the names are kept.
        label_studio: the client.
        clock: the time in seconds since 1970.
    """

    def __init__(
        self, store: Store, label_studio: LabelStudio, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._label_studio = label_studio
        self._clock = clock
        self._due_at = 0.0
        self._retry_at = 0.0
        self._not_told: set[int] = set()
        """Annotators of whom Label Studio's list says nothing: asked for again with the next refresh."""

    def refresh(self) -> None:
        """Read the names from Label Studio where somebody new has annotated, and once an hour.

        A failure leaves the names as they are: nothing but their display depends on them.
        """
        now = self._clock()
        if now < self._retry_at:
            return
        if now < self._due_at and self._store.unnamed_annotators() <= self._not_told:
            return
        try:
            users = self._label_studio.users()
        except LabelStudioError as error:
            log.debug("annotators' names could not be read: %s", error)
            self._retry_at = now + RETRY_SECONDS
            return
        read = [found for found in map(_annotator, users) if found is not None]
        if read != self._store.annotators():
            self._store.save_annotators(read)
        self._due_at = now + REFRESH_SECONDS
        self._not_told = self._store.unnamed_annotators()


def names_by_id(store: Store) -> dict[int, str]:
    """Return a name for each annotator known: the person's own, else the e-mail address.

    Where two people have the same name, the e-mail address (or the number) tells them apart.
    """
    people = store.annotators()
    shown = {person.id: person.name or person.email for person in people}
    times = Counter(name.casefold() for name in shown.values())
    for person in people:
        name = shown[person.id]
        if name and times[name.casefold()] > 1:
            shown[person.id] = f"{name} ({person.email if person.name and person.email else person.id})"
    return {id_: name for id_, name in shown.items() if name}


def annotator_name(annotator: int | None, names: Mapping[int, str]) -> str:
    """Return what to call an annotator: a name, else the number Label Studio knows them by."""
    if annotator is None:
        return "not known"
    return names.get(annotator, f"annotator {annotator}")


def _annotator(user: Mapping[str, Any]) -> Annotator | None:
    """Return a user of Label Studio's list as the store keeps it; None where there is no usable id."""
    id_ = user.get("id")
    if not is_id(id_):
        return None
    name = " ".join(_text(user, "first_name").split() + _text(user, "last_name").split())
    return Annotator(
        id_, name[:LONGEST_NAME], (_text(user, "email") or _text(user, "username"))[:LONGEST_NAME]
    )


def _text(user: Mapping[str, Any], key: str) -> str:
    value = user.get(key)
    return "".join(c for c in value if c.isprintable()).strip() if isinstance(value, str) else ""
