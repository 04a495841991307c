"""The live loop of a project: apply webhooks, embed new crops, run a round if one is due, and publish it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from everylabel.backend.embedding.passes import PoolGoneError
from everylabel.backend.embedding.pool_growth import PoolGrowth
from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.rounds.deleted_projects import forget_if_deleted
from everylabel.backend.rounds.publishing import RoundPublishing
from everylabel.backend.rounds.round_lock import round_lock
from everylabel.backend.rounds.runner import FinishedRound
from everylabel.backend.rounds.switching_rounds import SwitchingRounds
from everylabel.backend.store import faults
from everylabel.backend.sync.mirror import SYNC, SYNC_AND_TRAIN, Change, Mirror

if TYPE_CHECKING:
    from everylabel.backend.embedding.lanes import EmbeddingLanes
    from everylabel.backend.embedding.passes import PoolEmbedding
    from everylabel.backend.label_studio.client import LabelStudio
    from everylabel.backend.label_studio.publisher import Publisher
    from everylabel.backend.progress import Progress
    from everylabel.backend.rounds.runner import Rounds
    from everylabel.backend.settings import Settings
    from everylabel.backend.store import Project, Store
    from everylabel.backend.store.files import ProjectFiles

log = logging.getLogger(__name__)

LEAST_PAUSE_SECONDS = 30.0
PAUSE_FACTOR = 100.0
"""A comparison with Label Studio is repeated after a hundred times its duration: it takes 1 % of the time."""


@dataclass(frozen=True)
class _Found:
    """The changes that webhooks, and perhaps a comparison with Label Studio, have brought."""

    project: Project
    """The project after them."""
    change: Change
    events: list[int]
    """The events to delete once the round they ask for is stored."""
    newest_round: int | None
    """The number of the newest round before the changes."""

    @property
    def is_due(self) -> bool:
        return bool(self.change) or self.newest_round is None


class LiveLoop:
    """The loop that keeps labels equal to Label Studio's, and Label Studio's queue equal to the newest round.

    Args:
        settings: How long to wait for the end of a burst of webhooks, and how often to compare projects.
        store: Holds the projects and their webhooks.
        files: Returns a project's files.
        label_studio: The client.
        pool_embedding: Embeds in the foreground, as commands do.
        lanes: Embed in parallel with the rounds, as the trainer does.
        rounds: Runs rounds.
        publisher: Writes rounds into Label Studio.
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
        """How long the last comparison of each project took: the longer, the rarer it is repeated."""
        self._growth = PoolGrowth(store, pool_embedding, lanes)
        self._switch = rounds.switch
        self._switching = SwitchingRounds(store, label_studio, rounds)

    def reconcile(self, project_id: int, progress: Progress | None = None, *, whole: bool = False) -> Change:
        """Compare a project with Label Studio and record when; arguments, result and errors are `Mirror.reconcile`'s."""
        return self._reconcile(project_id, self._store.project(project_id), progress, whole=whole)[0]

    def _reconcile(
        self, project_id: int, before: Project | None, progress: Progress | None, *, whole: bool
    ) -> tuple[Change, Project]:
        """Compare a project with Label Studio; return the changes, and the project after them."""
        started = time.monotonic()
        change = self._mirror.reconcile(self._label_studio, project_id, progress, whole=whole)
        self.compare_seconds[project_id] = time.monotonic() - started
        if change.labels and before is not None and before.connected and before.reconciled_at is not None:
            what = "labels that no webhook told of"
            faults.note(self._files(project_id).folder, faults.WEBHOOKS, what, self._clock())
        project = self._store.save_project(project_id, reconciled_at=self._clock(), problem=None)
        self._store.forget_old_deletions(project_id)
        return change, project

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
        """Apply waiting webhooks, embed new crops, run a round if one is due, and publish it.

        Args:
            project_id: The project in Label Studio.
            compare: Compare with Label Studio whether or not that is due.
            force: Run and publish a round even if nothing has changed, and even if the project is not connected.
            batch_size: How many crops this round asks for; the setting's number if None.
            progress: Called with (what, done, total) during long work.
            wait: Wait while another round of this project runs.
            embed: Embed missing crops before the round. If False, the embedding lanes are asked to, and the round runs
                on the crops embedded so far.

        Returns:
            The round that was run or published; None if none was due.

        Raises:
            LabelStudioError: Label Studio does not answer or refuses; a round that was run is kept.
            LabelConfigError: Nothing in the labeling config classifies an image or a text.
            filelock.Timeout: Another round of this project runs, and `wait` is False.
        """
        if self._store.events(project_id):
            time.sleep(self._settings.coalesce_seconds)
        with ExitStack() as turn:
            turn.enter_context(round_lock(self._files(project_id), wait, progress))
            if forget_if_deleted(self._store, self._files(project_id), self._label_studio, project_id):
                return None
            found = self._bring_up_to_date(project_id, compare, progress)
            if not embed:
                missing_any = self._growth.request_missing(found.project)
                if missing_any and found.newest_round:  # new tasks make a round due when they are embedded
                    found = replace(found, change=replace(found.change, tasks=False))
            else:
                project = self._embed_missing(found, turn, wait, progress)
                if project is None:
                    return None
                found = replace(found, project=project)
            return self._finish(found, batch_size, force)

    def _finish(self, found: _Found, batch_size: int | None, force: bool) -> FinishedRound | None:
        """Run and publish a round, if one is due."""
        project, project_id = found.project, found.project.id
        latest = self._store.latest_round(project_id)
        newest = None if latest is None else latest.number
        # The changes are in the store: a round that was run since has learned from them.
        due = force or newest is None or (found.is_due and newest == found.newest_round)
        switches = self._switching.is_ready(project)
        if switches:
            # After a crash in between, this asks for the first round with the new encoder.
            found.events.append(self._store.add_event(project_id, "START_TRAINING", {}))
        due = due or switches or self._growth.is_enough(project_id)
        finished = None
        unpublished = None if due else self._publishing.unpublished(project)
        if due or (unpublished is None and self._publishing.is_awaited(project)):
            publish = force or project.connected
            finished = self._switching.run(project, batch_size, publish=publish, switches=switches)
            if finished is not None:
                self._growth.learned(project_id)
            if switches:
                self._lanes.request(project_id)  # crops that came while the last ones were embedded
        # Not before the round is stored: after a crash during it, the events ask for it again.
        self._store.delete_events(found.events)
        if finished is not None:
            self._publishing.publish(project, finished, force)
        elif unpublished is not None:
            self._publishing.publish(project, unpublished, force, again=True)
        self._switching.tell(project_id)
        return finished or unpublished

    def _embed_missing(
        self, found: _Found, turn: ExitStack, wait: bool, progress: Progress | None
    ) -> Project | None:
        """Embed missing crops, and release our `turn` meanwhile so that the trainer can run this project's rounds.

        Returns:
            The project, read again if our turn was released; None if it was forgotten meanwhile.
        """
        project_id = found.project.id
        if not self._growth.is_missing_any(project_id):
            return found.project
        # The trainer should run a round that is due, but not compare again, nor run a round that nothing asks for.
        if found.is_due:
            found.events.append(self._store.add_event(project_id, "START_TRAINING", {}))
        self._store.delete_events(found.events[:-1] if found.is_due else found.events)
        turn.close()
        with suppress(PoolGoneError):
            embedded = self._pool_embedding.embed(project_id, progress=progress)
            if embedded.failure is not None:
                # The embedded crops are worth a round; the others are tried again at the next comparison.
                log.warning("project %s: %s", project_id, embedded.failure)
        turn.enter_context(round_lock(self._files(project_id), wait, progress))
        return self._store.project(project_id)

    def has_grown_enough(self, project_id: int) -> bool:
        """Return whether enough crops have been embedded for a round: more of them, or all with the next encoder."""
        return self._growth.is_enough(project_id) or self._switch.is_embedded(project_id)

    def preview(
        self, project_id: int, *, batch_size: int | None = None, progress: Progress | None = None
    ) -> FinishedRound | None:
        """Run a round and store nothing of it, here or in Label Studio (`sync --dry-run`).

        Returns:
            The round; None while no crop is embedded. Arguments and errors are those of `catch_up`.
        """
        with self._synced(project_id, progress) as project:
            return None if project is None else self._rounds.run(project, batch_size=batch_size, save=False)

    def sync(self, project_id: int, progress: Progress | None = None) -> None:
        """Bring the store up to date with Label Studio and run no round, which is left to the trainer.

        Arguments and errors are those of `catch_up`.
        """
        with self._synced(project_id, progress):
            pass

    @contextmanager
    def _synced(self, project_id: int, progress: Progress | None) -> Iterator[Project | None]:
        """Hold the round lock of a project that is up to date; yield it, or None if it was forgotten meanwhile."""
        with ExitStack() as turn:
            turn.enter_context(round_lock(self._files(project_id), True, progress))
            found = self._bring_up_to_date(project_id, True, progress)
            if not found.is_due:
                self._store.delete_events(found.events)  # a sync alone asks for no round
            project = self._embed_missing(found, turn, True, progress)
            yield project
        if project is not None and project.connected:
            self._request_update(project_id)  # The changes found here still wait for their round.

    def _bring_up_to_date(self, project_id: int, compare: bool, progress: Progress | None) -> _Found:
        """Apply waiting webhooks, and compare with Label Studio if that is due or asked for."""
        project = self._store.project(project_id) or self._store.save_project(project_id)
        events = self._store.events(project_id)
        ids = [event.id for event in events]
        change = self._mirror.apply(project, events)
        if change.labels:
            faults.over(self._files(project_id).folder, faults.WEBHOOKS)
        reconciled_at = project.reconciled_at
        never_connected = reconciled_at is None and not project.connected
        # An event asks for this, and not `reconciled_at` alone: a sync that is running may have begun too early.
        asked = compare or change.config or any(e.action in (SYNC, SYNC_AND_TRAIN) for e in events)
        if asked or reconciled_at is None or self.reconcile_due(project_id, reconciled_at):
            # One event stands for all that this sync finds, until a round has been run on it.
            marker = self._store.add_event(project_id, SYNC_AND_TRAIN, {})
            try:
                found, project = self._reconcile(project_id, project, progress, whole=reconciled_at is None)
                change |= found
            except (LabelStudioError, LabelConfigError):
                # The events are applied, and the comparison with Label Studio stays due: keep one event to ask for it.
                self._store.delete_events(ids)
                if never_connected:
                    self._store.delete_events([marker])
                raise
            ids.append(marker)
            # While crops are being embedded their problems are new, and a command that embeds counts them at its end.
            if compare or not self._lanes.is_active(project_id):
                self._store.forget_problems(project_id)
            if not self._lanes.is_active(project_id, with_next=True):
                self._switch.try_again(project)
        elif change.config:
            project = self._store.project(project_id) or project
        latest = self._store.latest_round(project_id)
        return _Found(project, change, ids, None if latest is None else latest.number)

    def reconcile_due(self, project_id: int, last: float) -> bool:
        """Return whether it is time to compare a project with Label Studio again; `last` is the time it was, in seconds."""
        pause = max(LEAST_PAUSE_SECONDS, PAUSE_FACTOR * self.compare_seconds.get(project_id, 0.0))
        since = self._clock() - last
        # If the clock was set back, `last` is in the future: waiting for the clock to catch up could take days.
        return since < 0 or since >= min(pause, self._settings.reconcile_seconds)
