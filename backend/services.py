"""What the parts of one backend share, made once per process: store, jobs, client, encoder, rounds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import zip_longest
from typing import Any

from filelock import Timeout
from numpy.typing import NDArray

from backend.embedding import CropEmbedder, Embedded
from backend.heartbeat import Heartbeat
from backend.image_file import ImageLimits
from backend.images import ImageReader
from backend.jobs import Jobs
from backend.label_config import LabelConfigError
from backend.label_studio import LabelStudio, LabelStudioError, ProjectNotFoundError
from backend.metrics import Metrics
from backend.mirror import Change, Mirror
from backend.project_files import EmbeddingFile, ProjectFiles
from backend.publish import Publisher, version_name
from backend.rounds import FinishedRound, Rounds
from backend.settings import Settings
from backend.store import Store
from model import encoders
from model.classifier import Classifier
from model.encoders import Encoder

log = logging.getLogger(__name__)

LOOK = "LOOK"
"""An event of our own: compare with Label Studio, and run a round only if something is new."""
VERSIONS_KEPT_SECONDS = 900.0
"""A superseded pre-annotation may still be open before an annotator, whose submit fails once it is deleted."""

EMBEDDING_WAITS = 3
CLEAN_UP_VERSIONS = 20
"""How many versions one clean-up deletes at most: a bounded number of writes."""

Progress = Callable[[str, int, int], None]


class Services:
    """One backend's parts, and the work its trainer does.

    Args:
        settings: every setting.
        clock: seconds since the epoch.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.clock = clock
        settings.model_dir.mkdir(parents=True, exist_ok=True)
        self.store = Store(settings.database_url, clock)
        self.jobs = Jobs(settings.model_dir / "jobs.db", lambda: self)
        self.metrics = Metrics(self)
        self.mirror = Mirror(self.store)
        self._models: dict[int, tuple[int, Classifier]] = {}
        self.embedding_waits = threading.BoundedSemaphore(EMBEDDING_WAITS)
        """How many `/predict` calls may wait for crops at a time; any more are answered with what is there."""
        self._encoder_lock = threading.Lock()
        self._encoder: Encoder | None = None

    @cached_property
    def label_studio(self) -> LabelStudio:
        """The client for Label Studio."""
        return LabelStudio(
            self.settings.label_studio_url, self.settings.label_studio_api_key.get_secret_value()
        )

    @cached_property
    def publisher(self) -> Publisher:
        """What writes rounds into Label Studio."""
        return Publisher(self.label_studio)

    @cached_property
    def reader(self) -> ImageReader:
        """What turns a task's image into pixels."""
        return ImageReader(
            self.settings.label_studio_url,
            authorization=self.label_studio.authorization,
            limits=ImageLimits(
                max_bytes=int(self.settings.max_image_megabytes * 1_000_000),
                max_pixels=int(self.settings.max_image_megapixels * 1_000_000),
            ),
            allow_private_addresses=self.settings.allow_private_addresses,
        )

    @cached_property
    def rounds(self) -> Rounds:
        """What runs rounds."""
        return Rounds(self.settings, self.store, self.files, self.encoder, self.clock)

    def encoder(self) -> Encoder:
        """The encoder, loaded once."""
        with self._encoder_lock:
            if self._encoder is None:
                self._encoder = encoders.create(self.settings.encoder, device=self.settings.device)
            return self._encoder

    def files(self, project_id: int) -> ProjectFiles:
        """A project's files."""
        return ProjectFiles(self.settings.model_dir, project_id)

    def embedding_file(self, project_id: int) -> EmbeddingFile:
        """The file a project's embeddings lie in."""
        encoder = self.encoder()
        return self.files(project_id).embeddings(encoder.signature, encoder.dim, encoder.dtype)

    def embeddings(self, project_id: int) -> NDArray[Any]:
        """A project's embeddings, memory-mapped: `(n, dim)`."""
        return self.embedding_file(project_id).read()

    def model(self, project_id: int) -> Classifier | None:
        """The classifier in use, or None while nothing is learned; read from disk once.

        Where its file is damaged, the newest readable one before it answers instead.
        """
        project = self.store.project(project_id)
        if project is None or project.model_round is None:
            return None
        cached = self._models.get(project_id)
        if cached is not None and cached[0] == project.model_round:
            return cached[1]
        files, encoder = self.files(project_id), self.encoder()
        for number in reversed([number for number in files.models() if number <= project.model_round]):
            state = files.load_model(number, encoder.signature)
            if state is not None:
                classifier = encoder.make_classifier()
                classifier.load_state(state)
                self._models[project_id] = (project.model_round, classifier)
                return classifier
        return None

    # --- what the trainer does

    def reconcile(self, project_id: int, progress: Progress | None = None) -> Change:
        """Read a project whole from Label Studio.

        Raises:
            LabelConfigError, LabelStudioError: as `Mirror.reconcile`.
        """
        change = self.mirror.reconcile(self.label_studio, project_id, progress)
        self.store.save_project(project_id, reconciled_at=self.clock(), problem=None)
        return change

    def embed_missing(
        self, project_id: int, task_ids: Sequence[int] | None = None, progress: Progress | None = None
    ) -> Embedded:
        """Embed every crop (or those of `task_ids`) that is not embedded yet."""
        with self.files(project_id).embedding_lock():
            encoder = self.encoder()
            project = self.store.project(project_id)
            if project is not None and project.encoder != encoder.signature:
                self.store.forget_embeddings(project_id, encoder.signature)
            tasks = self.store.tasks_to_embed(project_id)
            if task_ids is not None:
                wanted = set(task_ids)
                tasks = [task for task in tasks if task.id in wanted]
            if not tasks:
                return Embedded(0, 0)
            embedder = CropEmbedder(self.store, self.reader, encoder, self.settings.download_threads)
            report = (
                None if progress is None else (lambda done, total: progress("Embedding crops", done, total))
            )
            return embedder.embed(project_id, tasks, self.embedding_file(project_id), report)

    def embed(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Embed these tasks' crops if they are not (a job): somebody waits for them in `/predict`."""
        failure = self.embed_missing(project_id, task_ids).failure
        if failure is not None:
            # Recorded, so that whoever waits learns the reason; the next reconcile tries them again.
            left = [task.id for task in self.store.tasks(project_id, task_ids) if task.embedding_row is None]
            self.store.save_problems(project_id, dict.fromkeys(left, str(failure)))

    def waiting(self) -> list[int]:
        """Projects that have webhooks waiting."""
        return self.store.projects_with_events()

    def learn(self, project_id: int) -> bool:
        """Catch up with a project and run a round if one is due (a job); False if it has to be tried again.

        A failure is kept as the project's problem, to be shown by `everylabel doctor`.
        """
        try:
            self.catch_up(project_id, wait=False)
        except Timeout:
            return False  # another process runs this project's round
        except (LabelStudioError, LabelConfigError) as error:
            log.warning("project %s: %s", project_id, error)
            project = self.store.project(project_id)
            never_seen = project is None or (project.reconciled_at is None and not project.connected)
            if isinstance(error, ProjectNotFoundError) and never_seen:
                self.store.delete_project(project_id)
            else:
                self.store.save_project(project_id, problem=str(error))
            return False
        return True

    def catch_up(
        self,
        project_id: int,
        *,
        read_all: bool = False,
        force: bool = False,
        batch_size: int | None = None,
        progress: Progress | None = None,
        wait: bool = True,
    ) -> FinishedRound | None:
        """Work waiting webhooks in, embed what is new, run a round if one is due, and publish it.

        Args:
            project_id: a project of Label Studio.
            read_all: compare with Label Studio whether or not that is due.
            force: run and publish a round even if nothing has changed, connected or not.
            batch_size: crops this round asks for; the setting's number if None.
            progress: called with (what, done, total) during long work.
            wait: wait while another round of this project runs.

        Raises:
            LabelStudioError: Label Studio does not answer or refuses; what was learned is kept.
            LabelConfigError: nothing in the labeling config classifies an image.
            filelock.Timeout: another round of this project runs, and `wait` is off.
        """
        if self.store.events(project_id):
            time.sleep(self.settings.coalesce_seconds)
        finished = None
        with self.files(project_id).lock(timeout=-1 if wait else 0):
            if self._forget_deleted(project_id):
                return None
            due, events = self._bring_up_to_date(project_id, read_all, progress)
            if due or force:
                finished = self._run(project_id, batch_size, force)
            # Not before the round is kept: after a crash in its middle they ask for it again.
            self.store.delete_events(events)
            if finished is not None:
                self._publish(project_id, finished, force)
        return finished

    def preview(
        self, project_id: int, *, batch_size: int | None = None, progress: Progress | None = None
    ) -> FinishedRound | None:
        """Run a round and keep nothing of it, here or in Label Studio (`sync --dry-run`).

        Raises:
            LabelStudioError, LabelConfigError: as `catch_up`.
        """
        with self.files(project_id).lock():
            due, events = self._bring_up_to_date(project_id, True, progress)
            if not due:
                self.store.delete_events(events)  # looking asks for no round
            finished = self.rounds.run(project_id, batch_size=batch_size, save=False)
        if self._publishes(project_id, force=False):
            self.jobs.learn(project_id)  # What was found new here still waits for its round.
        return finished

    def _bring_up_to_date(
        self, project_id: int, read_all: bool, progress: Progress | None
    ) -> tuple[bool, list[int]]:
        """Bring the store up to Label Studio's state.

        Returns:
            Whether a round is due, and the events to be deleted once it is kept.
        """
        if self.store.project(project_id) is None:
            self.store.save_project(project_id)
        events = self.store.events(project_id)
        ids = [event.id for event in events]
        change = self.mirror.apply(project_id, events)
        project = self.store.project(project_id)
        reconciled_at = None if project is None else project.reconciled_at
        if read_all or change.config or reconciled_at is None or self._reconcile_due(reconciled_at):
            # One event stands for all that this look finds, until a round has been run on it.
            marker = self.store.add_event(project_id, "START_TRAINING", {})
            try:
                change |= self.reconcile(project_id, progress)
            except (LabelStudioError, LabelConfigError):
                # The events are worked in, and the look at the whole project stays due: keep one to ask for it.
                self.store.delete_events(ids)
                if reconciled_at is None:
                    self.store.delete_events([marker])
                raise
            ids.append(marker)
            self.store.forget_problems(project_id)
        embedded = self.embed_missing(project_id, progress=progress)
        if embedded.failure is not None:
            # The crops at hand are worth a round; the others are tried again with the next reconcile.
            log.warning("project %s: %s", project_id, embedded.failure)
        change |= Change(tasks=embedded.embedded > 0)
        latest = self.store.latest_round(project_id)
        connected = project is not None and project.connected
        due = bool(change) or latest is None or (connected and latest.published_at is None)
        return due, ids

    def _run(self, project_id: int, batch_size: int | None, force: bool) -> FinishedRound | None:
        first = self.store.latest_round(project_id) is None
        publish = self._publishes(project_id, force)
        versions = list(self.label_studio.model_versions(project_id)) if first and publish else []
        return self.rounds.run(project_id, batch_size=batch_size, versions=versions)

    def _publish(self, project_id: int, finished: FinishedRound, force: bool) -> None:
        if not self._publishes(project_id, force):
            return
        try:
            self.publisher.publish(project_id, finished.queue, finished.control)
        except LabelStudioError:
            # Perhaps a task is gone and its webhook was lost: the next look reads the whole project.
            self.store.save_project(project_id, reconciled_at=None)
            raise
        self.store.mark_published(project_id, finished.record.number)
        self.publisher.save_tabs(project_id, finished.queue)
        self.store.save_project(project_id, problem=None)

    def _publishes(self, project_id: int, force: bool) -> bool:
        project = self.store.project(project_id)
        return force or (project is not None and project.connected)

    def wake(self) -> None:
        """Have every connected project read whole: what happened while nothing ran here, no webhook has told."""
        for project in self.store.projects():
            if project.connected:
                self.store.save_project(project.id, reconciled_at=None)
                self.store.add_event(project.id, LOOK, {})

    def tend(self) -> list[int]:
        """Say which projects need a look, and clean old versions out of Label Studio (a job, once a minute)."""
        waiting = set(self.store.projects_with_events())
        for project in self.store.projects():
            if not project.connected:
                continue
            latest = self.store.latest_round(project.id)
            due = project.reconciled_at is None or self._reconcile_due(project.reconciled_at)
            if due or latest is None or latest.published_at is None:
                waiting.add(project.id)
            try:
                self._clean_up(project.id)
            except LabelStudioError as error:
                log.warning("project %s: %s", project.id, error)
        return sorted(waiting)

    def _forget_deleted(self, project_id: int) -> bool:
        """Drop a project if a webhook says it was deleted, and Label Studio says so too."""
        if not any(event.action == "PROJECT_DELETED" for event in self.store.events(project_id)):
            return False
        try:
            self.label_studio.project(project_id)
        except ProjectNotFoundError:
            self.store.delete_project(project_id)
            self.files(project_id).delete()
            log.info("project %s was deleted in Label Studio and is forgotten", project_id)
            return True
        return False

    def _reconcile_due(self, last: float) -> bool:
        return self.clock() - last >= self.settings.reconcile_seconds

    def _clean_up(self, project_id: int) -> None:
        rounds = self.store.rounds(project_id)
        keep = {
            version_name(record.number)
            for record, following in zip_longest(rounds, rounds[1:])
            if following is None or self.clock() - following.finished_at < VERSIONS_KEPT_SECONDS
        }
        if len(keep) < len(rounds):
            self.publisher.clean_up(project_id, sorted(keep), at_most=CLEAN_UP_VERSIONS)

    # --- whether the trainer lives

    @cached_property
    def heartbeat(self) -> Heartbeat:
        """The trainer's sign of life."""
        return Heartbeat(self.settings.model_dir / "trainer.heartbeat")

    def start_heartbeat(self) -> None:
        """Say every two seconds that this process, the trainer, is alive, and how Label Studio answers it."""
        self.heartbeat.start(
            lambda: {
                "label_studio_calls": self.label_studio.calls,
                "label_studio_failures": self.label_studio.failures,
            }
        )

    def trainer_alive(self) -> bool:
        """Whether a trainer has given a sign of life lately."""
        return self.heartbeat.alive()

    def health(self) -> dict[str, Any]:
        """What `/health` says: `UP` as soon as requests are answered, and whether the trainer lives."""
        return {
            "status": "UP",
            "model_class": "ActiveLearningBackend",
            "trainer": "alive" if self.trainer_alive() else "not running",
        }


_current: Services | None = None
_current_lock = threading.Lock()


def current_services() -> Services:
    """This process's services, made from the environment at first use.

    Where nothing else works the jobs (the class is served by `label_studio_ml.api.init_app`), a trainer thread
    of this process does.
    """
    global _current  # noqa: PLW0603 - one per process is the point
    with _current_lock:
        if _current is None:
            _current = Services(Settings())
            if not _current.trainer_alive():
                _current.start_heartbeat()
                _current.wake()
                _current.jobs.start_trainer_thread()
        return _current
