"""The live loop of one project: work webhooks in, embed what is new, run a round if one is due, publish it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from filelock import Timeout

from everylabel.backend.embedding.passes import PoolGoneError
from everylabel.backend.embedding.pool_growth import PoolGrowth
from everylabel.backend.label_studio.errors import (
    LabelStudioError,
    ProjectNotFoundError,
)
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.rounds.publishing import RoundPublishing
from everylabel.backend.rounds.runner import FinishedRound
from everylabel.backend.sync.mirror import SYNC, SYNC_AND_TRAIN, Change, Mirror

if TYPE_CHECKING:
    from everylabel.backend.embedding.lanes import EmbeddingLanes
    from everylabel.backend.embedding.passes import PoolEmbedding
    from everylabel.backend.label_studio.client import LabelStudio
    from everylabel.backend.label_studio.publisher import Publisher
    from everylabel.backend.progress import Progress
    from everylabel.backend.rounds.runner import Rounds
    from everylabel.backend.settings import Settings
    from everylabel.backend.store import Store
    from everylabel.backend.store.files import ProjectFiles

log = logging.getLogger(__name__)

WAITING_SHOWN_SECONDS = 0.5
"""How often a command that waits for another process's round says how far that has come."""
LEAST_PAUSE_SECONDS = 30.0
PAUSE_FACTOR = 100.0
"""A project is compared with Label Studio again after a hundred times what that took: one per cent of its time."""


@dataclass(frozen=True)
class _Found:
    """The changes that webhooks, and perhaps a comparison with Label Studio, have brought."""

    change: Change
    events: list[int]
    """To be deleted once the round they ask for is kept."""
    newest_round: int | None
    """The number of the newest round at that time."""

    @property
    def is_due(self) -> bool:
        return bool(self.change) or self.newest_round is None


class LiveLoop:
    """Keeps a project's labels equal to Label Studio's, and Label Studio's queue equal to the newest round.

    Args:
        settings: How long a burst of webhooks is waited for, and how often projects are compared.
        store: Holds the projects and their webhooks.
        files: Returns a project's files.
        label_studio: The client.
        pool_embedding: Embeds in the foreground, as commands do.
        lanes: Embed beside the rounds, as the trainer does.
        rounds: Runs rounds.
        publisher: Writes them into Label Studio.
        clock: Returns seconds since 1970.
        request_update: Asks the trainer to catch up with a project.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        files: Callable[[int], ProjectFiles],
        label_studio: LabelStudio,
        pool_embedding: PoolEmbedding,
        lanes: EmbeddingLanes,
        rounds: Rounds,
        publisher: Publisher,
        clock: Callable[[], float],
        request_update: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._files = files
        self._label_studio = label_studio
        self._pool_embedding = pool_embedding
        self._lanes = lanes
        self._rounds = rounds
        self._publishing = RoundPublishing(store, files, publisher)
        self._clock = clock
        self._request_update = request_update
        self._mirror = Mirror(store, clock)
        self.compare_seconds: dict[int, float] = {}
        """How long comparing each project with Label Studio took last: the longer, the rarer it is done."""
        self._growth = PoolGrowth(store, pool_embedding, lanes)

    def reconcile(self, project_id: int, progress: Progress | None = None, *, whole: bool = False) -> Change:
        """Read from a project in Label Studio what has changed, or the `whole` of it.

        Raises:
            LabelConfigError, LabelStudioError: as `Mirror.reconcile`.
        """
        started = time.monotonic()
        change = self._mirror.reconcile(self._label_studio, project_id, progress, whole=whole)
        self.compare_seconds[project_id] = time.monotonic() - started
        self._store.save_project(project_id, reconciled_at=self._clock(), problem=None)
        self._store.forget_old_deletions(project_id)
        return change

    def catch_up(
        self,
        project_id: int,
        *,
        compare: bool = False,
        force: bool = False,
        batch_size: int | None = None,
        progress: Progress | None = None,
        wait: bool = True,
        embed: bool = True,
    ) -> FinishedRound | None:
        """Work waiting webhooks in, embed what is new, run a round if one is due, and publish it.

        Args:
            project_id: a project of Label Studio.
            compare: compare with Label Studio whether or not that is due.
            force: run and publish a round even if nothing has changed, connected or not.
            batch_size: crops this round asks for; the setting's number if None.
            progress: called with (what, done, total) during long work.
            wait: wait while another round of this project runs.
            embed: embed what is missing before the round. Without, the embedding lanes are asked to, and the round
                is run on the crops embedded so far.

        Raises:
            LabelStudioError: Label Studio does not answer or refuses; what was learned is kept.
            LabelConfigError: nothing in the labeling config classifies an image.
            filelock.Timeout: another round of this project runs, and `wait` is off.
        """
        if self._store.events(project_id):
            time.sleep(self._settings.coalesce_seconds)
        with ExitStack() as turn:
            turn.enter_context(_turn(self._files(project_id), wait, progress))
            if self._forget_deleted(project_id):
                return None
            found = self._bring_up_to_date(project_id, compare, progress)
            if not embed:
                found = self._request_missing(project_id, found)
            else:
                self._embed_missing(project_id, found, turn, wait, progress)
                if self._store.project(project_id) is None:
                    return None
            return self._finish(project_id, found, batch_size, force)

    def _finish(
        self, project_id: int, found: _Found, batch_size: int | None, force: bool
    ) -> FinishedRound | None:
        """Run the round that is due, if one is, and publish it."""
        latest = self._store.latest_round(project_id)
        newest = None if latest is None else latest.number
        # What was found is in the store: a round that was run since has learned from it.
        due = force or newest is None or (found.is_due and newest == found.newest_round)
        due = due or self.has_grown_enough(project_id)
        finished = None
        unpublished = None if due else self._publishing.unpublished(project_id)
        if due or (unpublished is None and self._publishing.is_awaited(project_id)):
            finished = self._run(project_id, batch_size, force)
            if finished is not None:
                self._growth.learned(project_id)
        # Not before the round is kept: after a crash in its middle they ask for it again.
        self._store.delete_events(found.events)
        if finished is not None:
            self._publishing.publish(project_id, finished, force)
        elif unpublished is not None:
            self._publishing.publish(project_id, unpublished, force, again=True)
        return finished or unpublished

    def _embed_missing(
        self, project_id: int, found: _Found, turn: ExitStack, wait: bool, progress: Progress | None
    ) -> None:
        """Embed what is missing, and let the trainer run this project's rounds meanwhile: leave our `turn` to it."""
        if not self._growth.is_missing_any(project_id):
            return
        # The trainer is to run what is due, and neither to compare again nor to run a round that nothing asks for.
        if found.is_due:
            found.events.append(self._store.add_event(project_id, "START_TRAINING", {}))
        self._store.delete_events(found.events[:-1] if found.is_due else found.events)
        turn.close()
        with suppress(PoolGoneError):
            embedded = self._pool_embedding.embed(project_id, progress=progress)
            if embedded.failure is not None:
                # The crops at hand are worth a round; the others are tried again with the next comparison.
                log.warning("project %s: %s", project_id, embedded.failure)
        turn.enter_context(_turn(self._files(project_id), wait, progress))

    def _request_missing(self, project_id: int, found: _Found) -> _Found:
        """Ask the trainer's threads for what is missing, and do not wait for it.

        Always: another machine that was asked may have been killed. A pass that embeds nothing makes no round due.
        """
        if not self._growth.is_missing_any(project_id):
            return found
        self._lanes.request(project_id)
        # New tasks make a round due when they are embedded.
        return replace(found, change=replace(found.change, tasks=False)) if found.newest_round else found

    def has_grown_enough(self, project_id: int) -> bool:
        """Return whether crops that were embedded since the newest round are worth another."""
        return self._growth.is_enough(project_id)

    def preview(
        self, project_id: int, *, batch_size: int | None = None, progress: Progress | None = None
    ) -> FinishedRound | None:
        """Run a round and keep nothing of it, here or in Label Studio (`sync --dry-run`).

        Raises:
            LabelStudioError, LabelConfigError: as `catch_up`.
        """
        with self._synced(project_id, progress):
            return self._rounds.run(project_id, batch_size=batch_size, save=False)

    def sync(self, project_id: int, progress: Progress | None = None) -> None:
        """Bring the store up to Label Studio's state and run no round: that is left to the trainer.

        Raises:
            LabelStudioError, LabelConfigError: as `catch_up`.
        """
        with self._synced(project_id, progress):
            pass

    @contextmanager
    def _synced(self, project_id: int, progress: Progress | None) -> Iterator[None]:
        with ExitStack() as turn:
            turn.enter_context(_turn(self._files(project_id), True, progress))
            found = self._bring_up_to_date(project_id, True, progress)
            if not found.is_due:
                self._store.delete_events(found.events)  # a sync alone asks for no round
            self._embed_missing(project_id, found, turn, True, progress)
            yield
        if self._publishing.is_wanted(project_id):
            self._request_update(project_id)  # What was found new here still waits for its round.

    def _bring_up_to_date(self, project_id: int, compare: bool, progress: Progress | None) -> _Found:
        """Bring the store up to Label Studio's state."""
        if self._store.project(project_id) is None:
            self._store.save_project(project_id)
        events = self._store.events(project_id)
        ids = [event.id for event in events]
        change = self._mirror.apply(project_id, events)
        project = self._store.project(project_id)
        reconciled_at = None if project is None else project.reconciled_at
        never_connected = reconciled_at is None and not (project is not None and project.connected)
        # Asked for by an event and not by `reconciled_at` alone: a sync that is running may have begun too early.
        asked = compare or change.config or any(e.action in (SYNC, SYNC_AND_TRAIN) for e in events)
        if asked or reconciled_at is None or self.reconcile_due(project_id, reconciled_at):
            # One event stands for all that this sync finds, until a round has been run on it.
            marker = self._store.add_event(project_id, SYNC_AND_TRAIN, {})
            try:
                change |= self.reconcile(project_id, progress, whole=reconciled_at is None)
            except (LabelStudioError, LabelConfigError):
                # The events are worked in, and the comparison with Label Studio stays due: keep one event to ask for it.
                self._store.delete_events(ids)
                if never_connected:
                    self._store.delete_events([marker])
                raise
            ids.append(marker)
            # While crops are embedded their problems are news, and a command that is at it counts them at its end.
            if compare or not self._lanes.is_active(project_id):
                self._store.forget_problems(project_id)
        latest = self._store.latest_round(project_id)
        return _Found(change, ids, None if latest is None else latest.number)

    def _run(self, project_id: int, batch_size: int | None, force: bool) -> FinishedRound | None:
        first = self._store.latest_round(project_id) is None
        publish = force or self._publishing.is_wanted(project_id)
        versions = list(self._label_studio.model_versions(project_id)) if first and publish else []
        return self._rounds.run(project_id, batch_size=batch_size, versions=versions)

    def _forget_deleted(self, project_id: int) -> bool:
        """Drop a project if a webhook says it was deleted, and Label Studio says so too."""
        if not any(event.action == "PROJECT_DELETED" for event in self._store.events(project_id)):
            return False
        try:
            self._label_studio.project(project_id)
        except ProjectNotFoundError:
            files = self._files(project_id)
            with files.embedding_lock():  # nobody appends rows to what is being deleted
                self._store.delete_project(project_id)
                files.delete()
            log.info("project %s was deleted in Label Studio and is forgotten", project_id)
            return True
        return False

    def reconcile_due(self, project_id: int, last: float) -> bool:
        """Whether it is time to compare a project with Label Studio again, `last` being when that was done."""
        pause = max(LEAST_PAUSE_SECONDS, PAUSE_FACTOR * self.compare_seconds.get(project_id, 0.0))
        since = self._clock() - last
        # A clock that was set back makes `last` lie ahead: waiting for it to catch up could take days.
        return since < 0 or since >= min(pause, self._settings.reconcile_seconds)


@contextmanager
def _turn(files: ProjectFiles, wait: bool, progress: Progress | None = None) -> Iterator[None]:
    """Hold the project's round lock; while another process has it, tell how far that one has come.

    Raises:
        filelock.Timeout: on entering, where another has it and `wait` is off.
    """
    if not wait or progress is None:
        with files.lock(timeout=-1 if wait else 0):
            yield
        return
    with ExitStack() as held:
        while True:
            with suppress(Timeout):
                held.enter_context(files.lock(timeout=WAITING_SHOWN_SECONDS))
                break
            progress("Waiting for the backend, which runs a round", 0, 0)
        yield
