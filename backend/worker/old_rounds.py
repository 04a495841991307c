"""Cleaning superseded rounds out of Label Studio, which shows each prediction of a crop as a tab of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.backend.label_studio.publisher import version_name
from everylabel.backend.label_studio.superseded import (
    KEPT_SECONDS,
    OPEN_SECONDS,
    Submit,
    left_behind,
    needed_versions,
    reserves_left_over,
    submits_of,
)

if TYPE_CHECKING:
    from everylabel.backend.label_studio.client import LabelStudio
    from everylabel.backend.label_studio.publisher import Publisher
    from everylabel.backend.store import Store

log = logging.getLogger(__name__)

CLEAN_UP_AT = 3
"""When this many superseded versions are needed by nobody, they are deleted right after the round."""
CLEAN_UP_VERSIONS = 20
"""How many versions one clean-up deletes; two more for each round since the last, so that it always catches up."""
CLEAN_UP_SECONDS = 60.0
CLEAN_UP_TASKS = 100
"""How many annotated tasks one clean-up checks."""
CLEAN_UP_RESERVES = 10
"""How many rounds one clean-up takes the reserve of: about half a second each."""


class OldRounds:
    """The superseded rounds of all projects; of each it is remembered what is clean already.

    Args:
        store: Holds the projects, their rounds and annotations.
        label_studio: The client.
        publisher: Deletes predictions from Label Studio.
        clock: Returns seconds since 1970.
    """

    def __init__(
        self, store: Store, label_studio: LabelStudio, publisher: Publisher, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._label_studio = label_studio
        self._publisher = publisher
        self._clock = clock
        self._cleaned_to: dict[int, int] = {}
        """The newest round of each project whose version is gone from Label Studio."""
        self._tasks_cleaned: dict[int, set[int]] = {}
        """Annotated tasks of each project that were freed of superseded rounds."""
        self._reserves_cleaned: dict[int, set[int]] = {}
        """The rounds of each project whose reserve is gone from Label Studio."""

    def clean_up(self, project_id: int) -> None:
        """Delete what nobody needs: whole versions, the reserves of those that stay, and what annotated crops show.

        Raises:
            LabelStudioError: Label Studio did not answer, or refused.
        """
        self._clean_versions(project_id)
        self._clean_reserves(project_id)
        self._clean_tasks(project_id)

    def clean_up_several(self, project_id: int) -> None:
        """Delete superseded versions once there are several: they would pile up on crops until the minute ends."""
        project = self._store.project(project_id)
        if project is None or not project.connected:
            return
        try:
            self._clean_versions(project_id, after=self._cleaned_to.get(project_id, 0), at_least=CLEAN_UP_AT)
        except LabelStudioError as error:
            log.warning("project %s: %s", project_id, error)

    def _clean_versions(self, project_id: int, *, after: int = 0, at_least: int = 1) -> None:
        """Delete the versions of rounds after number `after` that nobody needs, if there are `at_least` so many."""
        clock = self._clock
        rounds = self._store.rounds(project_id, after=after)
        submits = self._recent_submits(project_id)

        def superseded(users: Sequence[int]) -> list[int]:
            needed = needed_versions(rounds, submits, users, clock())
            return [r.number for r in rounds if version_name(r.number) not in needed]

        # Asking who may sign in costs a request: only if the answer can matter.
        if len(superseded(())) < at_least:
            return
        old = superseded([int(user["id"]) for user in self._label_studio.users()])
        if len(old) < at_least:
            return
        gone = {version_name(number) for number in old}
        keep = [version_name(record.number) for record in rounds if version_name(record.number) not in gone]
        new = sum(record.finished_at >= clock() - CLEAN_UP_SECONDS for record in rounds)
        at_most = CLEAN_UP_VERSIONS + 2 * new
        cleaned = self._publisher.clean_up(project_id, keep, at_most, after=after, up_to=rounds[-1].number)
        if cleaned < at_most:
            self._cleaned_to[project_id] = max(old)

    def _clean_reserves(self, project_id: int) -> None:
        """Delete the reserves of rounds that are kept for the sake of their queue: they would pile up on crops."""
        done = self._reserves_cleaned.setdefault(project_id, set())
        rounds, submits = self._store.rounds(project_id), self._recent_submits(project_id)
        if not reserves_left_over(rounds, submits, 0, self._clock(), done):
            return  # asking who may hold a crop costs requests
        held, people = self._label_studio.model_versions(project_id), len(self._label_studio.users())
        left = reserves_left_over(rounds, submits, people, self._clock(), done)
        done.update(record.number for record in rounds[:-1] if record.model_version not in held)
        for record in [r for r in left if r.number not in done][:CLEAN_UP_RESERVES]:
            self._publisher.clean_reserve(project_id, record.model_version, {*record.reserve})
            done.add(record.number)

    def _recent_submits(self, project_id: int) -> list[Submit]:
        """Return the submits of the last day, by our clock."""
        lead = self._label_studio.clock_lead
        since = self._clock() - lead - OPEN_SECONDS
        return submits_of(self._store.annotations(project_id, since=since), lead)

    def _clean_tasks(self, project_id: int) -> None:
        """Delete predictions of kept rounds from annotated crops, where they would be shown beside a person's label."""
        newest, label_studio = self._store.latest_round(project_id), self._label_studio
        if newest is None:
            return
        before = self._clock() - label_studio.clock_lead - KEPT_SECONDS
        annotations = self._store.annotations(project_id)
        done = self._tasks_cleaned.setdefault(project_id, set())
        not_shown, questioned = left_behind(annotations, newest, before)
        left = [id_ for id_ in not_shown if id_ not in done][-CLEAN_UP_TASKS:]
        if left and self._publisher.clean_tasks(project_id, left):
            done.update(left)
        if questioned and newest.published_at is not None:
            self._publisher.keep_one_suggestion(project_id, questioned, newest.model_version)
