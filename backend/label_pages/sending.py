"""Send the labels of confirmed pages to Label Studio, each as an annotation of the person who confirmed it.

Label Studio is asked for the annotations of a task just before one is written: a label that somebody else has given
meanwhile stays, and ours is left out. A label is sent under an id that Label Studio takes once only. So sending goes on
after a crash of either side, and writes nothing twice.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from everylabel.backend.label_pages.annotations import (
    annotator_of,
    changed_result,
    find,
    is_unchanged,
    picks,
    result_of,
)
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.errors import (
    LabelStudioError,
    ProjectNotFoundError,
    RequestRefusedError,
    TokenRefusedError,
)
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.store.page_labels import KEPT, LEFT_OUT, SENT, TAKE_BACK, TAKEN_BACK
from everylabel.backend.sync.mirror import stored_annotation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from everylabel.backend.label_studio.client import LabelStudio
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.store import PageLabel, PersonTokens, Store

log = logging.getLogger(__name__)

SEND_SECONDS = 5.0
"""How long labels are sent at a time: then a round learns from those that are, and the rest follows."""
EDITED = "It was edited in Label Studio after the page was confirmed."

MakeClient = Callable[[str], "LabelStudio"]
"""Makes the client of a person, given their token."""


class PageSender:
    """Sends the labels of confirmed pages, and takes back those of undone ones. One thread at a time a project.

    Args:
        store: Holds the labels.
        tokens: The token of each person.
        make_client: Makes a person's client.
    """

    def __init__(self, store: Store, tokens: PersonTokens, make_client: MakeClient) -> None:
        self._store = store
        self._tokens = tokens
        self._make_client = make_client
        self._clients: dict[int, tuple[str, LabelStudio]] = {}
        self._refused: dict[tuple[int, int], str | None] = {}
        """The tokens that Label Studio refused, by project and person: they have to sign in again."""

    def waiting(self) -> list[int]:
        """Return the projects with labels to send or to take back, of people whose token was not refused."""
        return [
            project_id
            for project_id in self._store.projects_with_labels_to_do()
            if any(self._may_send(project_id, who) for who in self._people(project_id))
        ]

    def send(self, project_id: int) -> bool:
        """Send what waits of a project, for `SEND_SECONDS`, which its people share; what is left goes on waiting.

        Returns:
            Whether that worked; otherwise it has to be tried again. Labels of people who have to sign in again wait
            for that, and are not tried.
        """
        labels = self._store.labels_to_do(project_id)
        project = self._store.project(project_id)
        if not labels or project is None:
            return True
        try:
            control = label_config.parse(project.label_config)
            seconds = SEND_SECONDS / len({label.annotator for label in labels})
            for who, given in groupby(sorted(labels, key=attrgetter("annotator")), attrgetter("annotator")):
                if self._may_send(project_id, who):
                    self._send_of(project_id, who, given, control, seconds)
        except (LabelStudioError, LabelConfigError) as error:
            log.warning("labels of pages are not sent yet: %s", error)
            return False
        return True

    def forget_tokens(self) -> None:
        """Delete the tokens of people who are not signed in any more and of whom no label waits."""
        self._tokens.keep_only(self._store.people_who_need_tokens())

    def _people(self, project_id: int) -> set[int]:
        return {label.annotator for label in self._store.labels_to_do(project_id)}

    def _may_send(self, project_id: int, who: int) -> bool:
        refused = self._refused.get((project_id, who), "")
        return refused != self._tokens.of(who)

    def _send_of(
        self,
        project_id: int,
        who: int,
        labels: Iterable[PageLabel],
        control: ImageChoices,
        seconds: float,
    ) -> None:
        """Send labels of one person, one in any case, until so many seconds are over."""
        until = time.monotonic() + seconds
        client = self._client(who)
        if client is None:
            self._refused[project_id, who] = None
            return
        try:
            wanted = client.project(project_id).get("maximum_annotations") or 1
            for label in sorted(labels, key=lambda label: label.state != TAKE_BACK):
                if label.state == TAKE_BACK:
                    self._take_back(client, project_id, label, control)
                else:
                    self._write(client, project_id, label, control, int(wanted))
                if time.monotonic() >= until:
                    return
        except (TokenRefusedError, ProjectNotFoundError) as error:
            log.warning("labels of annotator %s wait until they sign in again: %s", who, error)
            self._refused[project_id, who] = self._tokens.of(who)

    def _client(self, who: int) -> LabelStudio | None:
        token = self._tokens.of(who)
        if token is None:
            return None
        known = self._clients.get(who)
        if known is None or known[0] != token:
            known = self._clients[who] = (token, self._make_client(token))
        return known[1]

    def _write(
        self, client: LabelStudio, project_id: int, label: PageLabel, control: ImageChoices, wanted: int
    ) -> None:
        held = client.task_annotations(label.task_id)
        written = None if held is None else find(label, held)
        reason = None if written is not None else _hindrance(label, held, control, wanted)
        if reason is not None:
            self._store.finish_label(project_id, label, LEFT_OUT, reason=reason)
            return
        if written is None and label.replaces is not None:
            written = self._change(client, project_id, label, control, held or [])
            if written is None:
                return
        if written is None:
            if not self._store.begin_attempt(project_id, label.id):
                return  # undone meanwhile
            tasks = self._store.tasks(project_id, [label.task_id])
            result = result_of(label, control, tasks[0].image_url if tasks else None)
            try:
                written = client.annotate_once(
                    label.task_id, result, label.unique_id, lead_time=round(label.lead_time, 3)
                )
            except TokenRefusedError:
                raise
            except RequestRefusedError as error:
                self._store.finish_label(project_id, label, LEFT_OUT, reason=str(error))
                return
        if written is None:  # sent before a crash, between the two requests
            written = find(label, client.task_annotations(label.task_id) or [])
        self._finish_sent(project_id, label, written, control)

    def _change(
        self,
        client: LabelStudio,
        project_id: int,
        label: PageLabel,
        control: ImageChoices,
        held: list[dict[str, Any]],
    ) -> Mapping[str, Any] | None:
        """Give the person's own annotation the class of their review; return it, or None if that is over."""
        own = next(one for one in held if one["id"] == label.replaces)
        if not self._store.begin_attempt(project_id, label.id, json.dumps(own["result"])):
            return None  # undone meanwhile
        try:
            return client.change_annotation(int(own["id"]), changed_result(label, control, own))
        except TokenRefusedError:
            raise
        except RequestRefusedError as error:
            self._store.finish_label(project_id, label, LEFT_OUT, reason=str(error))
            return None

    def _finish_sent(
        self, project_id: int, label: PageLabel, written: Mapping[str, Any] | None, control: ImageChoices
    ) -> None:
        if written is not None:
            self._store.save_annotations(project_id, [stored_annotation(written, control)])
        number = None if written is None else int(written["id"])
        self._store.finish_label(project_id, label, SENT, number)

    def _take_back(
        self, client: LabelStudio, project_id: int, label: PageLabel, control: ImageChoices
    ) -> None:
        written = find(label, client.task_annotations(label.task_id) or [])
        if written is not None and label.replaces is not None and label.former is not None:
            if picks(label, written, control):
                before = client.change_annotation(int(written["id"]), json.loads(label.former))
                self._store.save_annotations(project_id, [stored_annotation(before, control)])
                self._store.finish_label(project_id, label, TAKEN_BACK)
            else:
                self._store.finish_label(project_id, label, KEPT, reason=EDITED)
            return
        if written is not None and not is_unchanged(label, written, control):
            self._store.finish_label(project_id, label, KEPT, reason=EDITED)
            return
        if written is not None:
            client.delete_annotation(int(written["id"]))
            self._store.delete_annotations(project_id, [int(written["id"])])
        self._store.finish_label(project_id, label, TAKEN_BACK)


def _hindrance(
    label: PageLabel, held: list[dict[str, Any]] | None, control: ImageChoices, wanted: int
) -> str | None:
    """Return why a label cannot become an annotation; None if it can.

    Args:
        label: The label.
        held: The annotations of its task; None if the task is gone.
        control: The labeling config.
        wanted: How many people are to label each task.
    """
    if held is None:
        return "The task was deleted."
    if gone := control.unknown(label.label):
        return f"The labeling config has no class {', '.join(map(repr, gone))} any more."
    if label.replaces is not None:
        own = next((one for one in held if one["id"] == label.replaces), {})
        is_same = control.choice(own.get("result")) == label.reviews
        return None if is_same else "You have changed your annotation in Label Studio meanwhile."
    people = [annotator_of(annotation) for annotation in held]
    if label.annotator in people:
        return "You have labelled it in Label Studio meanwhile."
    is_taken = label.reviews is None and len(people) >= max(1, wanted)
    return "Somebody else has labelled it meanwhile." if is_taken else None
