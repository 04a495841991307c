"""Make the parts of a backend and connect them; no other module knows how they are made."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from everylabel.backend.embedding.clients import make_label_studio, make_reader
from everylabel.backend.embedding.embeddings import Embeddings
from everylabel.backend.embedding.executor import Executor, LocalExecutor
from everylabel.backend.embedding.lanes import EmbeddingLanes
from everylabel.backend.embedding.passes import PoolEmbedding
from everylabel.backend.embedding.problems import EmbeddingProblems
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_pages.parts import LabelPageParts, make_label_page_parts
from everylabel.backend.label_studio.annotators import AnnotatorNames
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.publisher import Publisher
from everylabel.backend.metrics import Metrics
from everylabel.backend.rounds.encoder_switch import EncoderSwitch
from everylabel.backend.rounds.labels import labels_of
from everylabel.backend.rounds.live_loop import LiveLoop
from everylabel.backend.rounds.models import Models
from everylabel.backend.rounds.runner import Rounds
from everylabel.backend.settings import Settings
from everylabel.backend.store import Store
from everylabel.backend.store.damaged_files import set_aside_damaged
from everylabel.backend.store.files import ProjectFiles
from everylabel.backend.store.heartbeat import Heartbeat
from everylabel.backend.store.locks import DatabaseLocks, Locks, file_lock
from everylabel.backend.store.private_files import keep_private, private_umask
from everylabel.backend.worker.jobs import Jobs
from everylabel.backend.worker.trainer import Trainer

if TYPE_CHECKING:
    from everylabel.model.encoders import Encoder

EMBEDDING_WAITS = 3
HEARTBEAT = "trainer.heartbeat"

MakeExecutor = Callable[[Settings], Executor]


@dataclass(frozen=True)
class Backend:
    """The finished parts of one backend; `build` makes them.

    Only what starts a process takes all of it. Everything else takes what it uses.
    """

    settings: Settings
    clock: Callable[[], float]
    store: Store
    files: Callable[[int], ProjectFiles]
    label_studio: LabelStudio
    publisher: Publisher
    reader: ImageReader
    embeddings: Embeddings
    models: Models
    executor: Executor
    pool_embedding: PoolEmbedding
    embedding_lanes: EmbeddingLanes
    rounds: Rounds
    encoder_switch: EncoderSwitch
    loop: LiveLoop
    trainer: Trainer
    jobs: Jobs
    annotator_names: AnnotatorNames
    labelling: LabelPageParts
    heartbeat: Heartbeat
    metrics: Metrics
    embedding_waits: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(EMBEDDING_WAITS)
    )
    """How many `/predict` calls may wait for crops at a time; any more are answered without waiting."""


def build(
    settings: Settings,
    clock: Callable[[], float] = time.time,
    *,
    encoder: Encoder | None = None,
    encoder_threads: int | None = None,
    make_executor: MakeExecutor | None = None,
) -> Backend:
    """Make the parts of a backend, without a request to Label Studio and without loading a model.

    Args:
        settings: Every setting.
        clock: Returns seconds since 1970.
        encoder: Used instead of the one that the settings name.
        encoder_threads: CPU threads the encoder takes; one a core if None.
        make_executor: Makes the executor that embeds and scores, given what `MakeExecutor` says; this process if None.

    Raises:
        StorageError: The store is damaged, or cannot be reached or written to.
    """
    store, files = _open_store(settings, clock), _files(settings)
    jobs = _jobs(settings, lambda: trainer)
    label_studio = make_label_studio(settings)
    reader, publisher = make_reader(settings, label_studio), Publisher(label_studio)
    embeddings = Embeddings(settings, store, files, encoder, encoder_threads)
    executor = (make_executor or partial(_local_executor, reader))(settings)
    pool_embedding = PoolEmbedding(store, files, embeddings, executor)
    problems = EmbeddingProblems(store)
    lanes = EmbeddingLanes(store, files, pool_embedding, problems, settings.download_threads)
    rounds = Rounds(settings, store, files, embeddings, clock, executor.scorer)
    loop = LiveLoop(
        settings, store, files, label_studio, pool_embedding, lanes, rounds, publisher, clock, jobs.learn
    )
    heartbeat, names = Heartbeat(settings.model_dir / HEARTBEAT), AnnotatorNames(store, label_studio, clock)
    labelling = make_label_page_parts(settings, store, files, embeddings, partial(labels_of, store))
    parts = (label_studio, publisher, names, labelling.sender, heartbeat, clock)
    trainer = Trainer(store, files, loop, lanes, problems, *parts)
    return Backend(
        settings=settings,
        clock=clock,
        store=store,
        files=files,
        label_studio=label_studio,
        publisher=publisher,
        reader=reader,
        embeddings=embeddings,
        models=Models(store, files, embeddings),
        executor=executor,
        pool_embedding=pool_embedding,
        embedding_lanes=lanes,
        rounds=rounds,
        encoder_switch=rounds.switch,
        loop=loop,
        trainer=trainer,
        jobs=jobs,
        annotator_names=names,
        labelling=labelling,
        heartbeat=heartbeat,
        metrics=Metrics(store, heartbeat),
    )


def _open_store(settings: Settings, clock: Callable[[], float]) -> Store:
    keep_private(settings.model_dir)
    with private_umask():  # a database is made on opening
        set_aside_damaged(settings.model_dir)
        return Store(settings.store_url, clock)


def _jobs(settings: Settings, trainer: Callable[[], Trainer]) -> Jobs:
    with private_umask():  # a database is made on opening
        return Jobs(_requests(settings), trainer, settings.redis_url.get_secret_value())


def _local_executor(reader: ImageReader, settings: Settings) -> Executor:
    return LocalExecutor(reader, settings.download_threads)


def _requests(settings: Settings) -> str:
    """Return the database of requests: beside the store, so that no webhook waits for it; or the one machines share."""
    is_shared = bool(settings.database_url.get_secret_value())
    return settings.store_url if is_shared else f"sqlite:///{settings.model_dir / 'jobs.db'}"


def _files(settings: Settings) -> Callable[[int], ProjectFiles]:
    """Return a function that gives a project's files, with locks that every process of this backend respects."""
    locks: Locks = file_lock
    if settings.database_url.get_secret_value():
        locks = DatabaseLocks(settings.store_url, settings.model_dir)
    return lambda project_id: ProjectFiles(settings.model_dir, project_id, locks)


_current: Backend | None = None
_current_lock = threading.Lock()


def current_backend() -> Backend:
    """Return the backend of this process, made from the environment at first use.

    This is for `label_studio_ml.api.init_app`, which makes instances of a class and cannot pass anything to them. It
    starts no trainer either, so a thread of this process does that work unless a trainer is running.
    """
    global _current  # noqa: PLW0603 - one per process is the point
    with _current_lock:
        if _current is None:
            _current = build(Settings())
            if not _current.heartbeat.alive():
                _current.trainer.start_heartbeat()
                _current.trainer.request_sync()
                _current.jobs.start_trainer_thread()
        return _current
