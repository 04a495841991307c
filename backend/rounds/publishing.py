"""Write a stored round into Label Studio, now or as soon as it answers again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from everylabel.backend import logs
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.errors import LabelStudioError, LabelStudioUnreachableError
from everylabel.backend.label_studio.publisher import Queue, QueuedCrop
from everylabel.backend.rounds.runner import FinishedRound

if TYPE_CHECKING:
    from everylabel.backend.label_studio.publisher import Publisher
    from everylabel.backend.store import Project, RoundRecord, Store
    from everylabel.backend.store.files import ProjectFiles

log = logging.getLogger(__name__)


class RoundPublishing:
    """The publishing of the rounds of connected projects.

    Args:
        store: Knows which rounds are published.
        files: Returns a project's files, which hold the queue that is not published yet.
        publisher: Writes into Label Studio.
    """

    def __init__(self, store: Store, files: Callable[[int], ProjectFiles], publisher: Publisher) -> None:
        self._store = store
        self._files = files
        self._publisher = publisher

    def is_awaited(self, project: Project) -> bool:
        """Return whether the newest round of a connected project is not published yet."""
        return project.connected and self._newest_unpublished(project) is not None

    def unpublished(self, project: Project) -> FinishedRound | None:
        """Return the newest round of a connected project if its queue is stored and not published yet, or else None."""
        latest = self._newest_unpublished(project) if project.connected else None
        if latest is None:
            return None
        fields = self._files(project.id).queue(latest.number)
        if fields is None:
            return None
        return FinishedRound(latest, Queue.of(fields), label_config.parse(project.label_config))

    def _newest_unpublished(self, project: Project) -> RoundRecord | None:
        latest = self._store.latest_round(project.id)
        return latest if latest is not None and latest.published_at is None else None

    def publish(
        self, project: Project, finished: FinishedRound, force: bool = False, *, again: bool = False
    ) -> None:
        """Have Label Studio serve a round, if the project is connected or `force` is set.

        Args:
            project: The project.
            finished: Its newest round.
            force: Publish even if the project is not connected.
            again: Some of the round may be in Label Studio already.

        Raises:
            LabelStudioError: Label Studio does not answer, or refuses; the round is kept.
        """
        if not force and not project.connected:
            return
        with logs.about(project=project.id, round=finished.record.number):
            self._write(project, finished, again=again)

    def _write(self, project: Project, finished: FinishedRound, *, again: bool) -> None:
        project_id, queue = project.id, finished.queue
        try:
            asked = self._asked_of_somebody(project, queue)
            self._publisher.publish(project_id, _blind(queue, asked), finished.control, again=again)
        except LabelStudioUnreachableError:
            raise  # the round is kept, and published as it is once Label Studio is back
        except LabelStudioError:
            # Perhaps a task is gone and its webhook was lost: have the next comparison read the whole project.
            self._files(project_id).forget_queue()
            self._store.save_project(project_id, reconciled_at=None)
            raise
        self._store.mark_published(project_id, finished.record.number)
        self._files(project_id).forget_queue()
        self._publisher.save_tabs(project_id, _without(queue, asked))
        self._store.save_project(project_id, problem=None)
        try:
            self._publisher.ask_for_second_labels(project_id, queue)
        except LabelStudioError as error:  # the round is served without them, and the next one asks again
            log.warning("project %s: second labels are not asked for: %s", project_id, error)
        log.info("project %s: Label Studio serves %s", project_id, queue.model_version)

    def _asked_of_somebody(self, project: Project, queue: Queue) -> set[int]:
        """Return the tasks with a suggested label that Label Studio itself asks somebody else about."""
        if project.own_overlap < 2:
            return set()
        shown = [crop.task_id for crop in (*queue.suspected, *queue.emptied)]
        return {*shown} - {*self._publisher.asked_of_nobody(project.id, shown)}


def _blind(queue: Queue, tasks: set[int]) -> Queue:
    """Return a queue that suggests nothing of these tasks: the form would show it to whoever is to label them unaware."""

    def shown(part: Sequence[QueuedCrop]) -> list[QueuedCrop]:
        return [replace(crop, label=None) if crop.task_id in tasks else crop for crop in part]

    return replace(queue, suspected=shown(queue.suspected), emptied=shown(queue.emptied))


def _without(queue: Queue, tasks: set[int]) -> Queue:
    """Return a queue whose tabs of labels to look at again do not hold these tasks."""

    def kept(part: Sequence[QueuedCrop]) -> list[QueuedCrop]:
        return [crop for crop in part if crop.task_id not in tasks]

    return replace(queue, suspected=kept(queue.suspected), emptied=kept(queue.emptied))
