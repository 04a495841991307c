"""What the parts of one backend share, made once per process: store, jobs, client, encoder, rounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from everylabel.backend.embedding.executor import Engine, LocalEngine
from everylabel.backend.embedding.lanes import EmbeddingLanes
from everylabel.backend.embedding.passes import PoolEmbedding
from everylabel.backend.images.decode import ImageLimits
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.annotators import AnnotatorNames
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.publisher import Publisher
from everylabel.backend.metrics import Metrics
from everylabel.backend.rounds.live_loop import LiveLoop
from everylabel.backend.rounds.models import make_classifier
from everylabel.backend.rounds.runner import Rounds
from everylabel.backend.settings import Settings
from everylabel.backend.store import Store
from everylabel.backend.store.damaged_files import set_aside_damaged
from everylabel.backend.store.files import EmbeddingFile, ProjectFiles
from everylabel.backend.store.heartbeat import Heartbeat
from everylabel.backend.store.locks import DatabaseLocks, Locks, file_lock
from everylabel.backend.store.private_files import keep_private, private_umask
from everylabel.backend.worker.jobs import Jobs
from everylabel.backend.worker.trainer import Trainer
from everylabel.model import encoders

if TYPE_CHECKING:
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.encoders import Encoder

EMBEDDING_WAITS = 3

Progress = Callable[[str, int, int], None]


class Services:
    """One backend's parts.

    Args:
        settings: every setting.
        clock: seconds since the epoch.
        encoder_threads: CPU threads the encoder takes; one a core if None.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        *,
        encoder_threads: int | None = None,
    ) -> None:
        self.settings = settings
        self._encoder_threads = encoder_threads
        self.clock = clock
        keep_private(settings.model_dir)
        with private_umask():  # they are made on opening
            set_aside_damaged(settings.model_dir)
            self.store = Store(settings.store_url, clock)
        self._locks: Locks = file_lock
        if settings.database_url.get_secret_value():
            self._locks = DatabaseLocks(settings.store_url, settings.model_dir)
        with private_umask():
            self.jobs = Jobs(
                settings.model_dir / "jobs.db", lambda: self.trainer, settings.redis_url.get_secret_value()
            )
        self.metrics = Metrics(self)
        self.engine: Engine = LocalEngine(self)
        """What embeds crops and scores pools."""
        self._models: dict[int, tuple[tuple[int, bool], Classifier]] = {}
        self.embedding_waits = threading.BoundedSemaphore(EMBEDDING_WAITS)
        """How many `/predict` calls may wait for crops at a time; any more are answered with what is there."""
        self._encoder_lock = threading.Lock()
        self._encoder: Encoder | None = None

    @cached_property
    def label_studio(self) -> LabelStudio:
        """The client for Label Studio."""
        return make_label_studio(self.settings)

    @cached_property
    def publisher(self) -> Publisher:
        """What writes rounds into Label Studio."""
        return Publisher(self.label_studio)

    @cached_property
    def reader(self) -> ImageReader:
        """What turns a task's image into pixels."""
        return make_reader(self.settings, self.label_studio)

    @cached_property
    def rounds(self) -> Rounds:
        """What runs rounds."""
        return Rounds(
            self.settings,
            self.store,
            self.files,
            self.encoder,
            self.clock,
            self.engine.scorer,
        )

    @cached_property
    def loop(self) -> LiveLoop:
        """What keeps projects up to date and runs their rounds."""
        return LiveLoop(self)

    @cached_property
    def pool_embedding(self) -> PoolEmbedding:
        """What embeds the crops of projects."""
        return PoolEmbedding(self)

    @cached_property
    def embedding_lanes(self) -> EmbeddingLanes:
        """Where the trainer embeds."""
        return EmbeddingLanes(self, self.trainer.embedding_failed)

    @cached_property
    def annotator_names(self) -> AnnotatorNames:
        """What keeps the names of annotators up to date."""
        return AnnotatorNames(self.store, self.label_studio, self.clock)

    @cached_property
    def trainer(self) -> Trainer:
        """What the jobs do."""
        return Trainer(self)

    def encoder(self) -> Encoder:
        """The encoder, loaded once."""
        with self._encoder_lock:
            if self._encoder is None:
                self._encoder = encoders.create(
                    self.settings.encoder, device=self.settings.device, threads=self._encoder_threads
                )
            return self._encoder

    def files(self, project_id: int) -> ProjectFiles:
        """A project's files."""
        return ProjectFiles(self.settings.model_dir, project_id, self._locks)

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
        control = label_config.parse(project.label_config)
        wanted = (project.model_round, control.multiple)
        cached = self._models.get(project_id)
        if cached is not None and cached[0] == wanted:
            return cached[1]
        files, encoder = self.files(project_id), self.encoder()
        for number in reversed([number for number in files.models() if number <= project.model_round]):
            state = files.load_model(number, encoder.signature)
            # One learned before the labeling config allowed several classes, or one, says nothing now.
            if state is not None and ("names" in state) == control.multiple:
                classifier = make_classifier(control, encoder)
                classifier.load_state(state)
                self._models[project_id] = (wanted, classifier)
                return classifier
        return None

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


def make_label_studio(settings: Settings) -> LabelStudio:
    """The client for Label Studio these settings describe."""
    return LabelStudio(settings.label_studio_url, settings.label_studio_api_key.get_secret_value())


def make_reader(settings: Settings, label_studio: LabelStudio) -> ImageReader:
    """What turns a task's image into pixels, within these settings' limits."""
    return ImageReader(
        settings.label_studio_url,
        authorization=label_studio.authorization,
        limits=ImageLimits(
            max_bytes=int(settings.max_image_megabytes * 1_000_000),
            max_pixels=int(settings.max_image_megapixels * 1_000_000),
        ),
        allow_private_addresses=settings.allow_private_addresses,
    )


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
                _current.trainer.wake()
                _current.jobs.start_trainer_thread()
        return _current
