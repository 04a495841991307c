"""Run a round of a project: from the stored labels, through the learning core, to the queue for Label Studio."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from everylabel.backend.label_studio.label_config import ImageChoices
from everylabel.backend.label_studio.publisher import Queue, version_number
from everylabel.backend.rounds import spot_check
from everylabel.backend.rounds.accuracy import stored
from everylabel.backend.rounds.earlier_model import hear, in_words, is_forgotten, record_of
from everylabel.backend.rounds.encoder_switch import EncoderSwitch
from everylabel.backend.rounds.round_input import RoundInput, read_input
from everylabel.backend.rounds.round_queue import QueueMaker
from everylabel.backend.rounds.second_labels import second_labels
from everylabel.backend.store import Annotation, Project, RoundRecord, Store, round_snapshot
from everylabel.model.query import DEFAULT

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.embedding.executor import Scorer
    from everylabel.backend.settings import Settings
    from everylabel.backend.store.files import EmbeddingFile, ProjectFiles
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.session import ActiveLearningSession, Round

log = logging.getLogger(__name__)

MODELS_KEPT = 20


@dataclass(frozen=True)
class FinishedRound:
    """A round that has been run, and the queue that Label Studio is to serve."""

    record: RoundRecord
    queue: Queue
    control: ImageChoices


def confirmed_labels(
    latest: RoundRecord | None, annotations: Sequence[Annotation], labels: Mapping[int, str]
) -> dict[int, str]:
    """Return the labels that somebody has submitted again since they were suspected; they are not suspected again.

    Pressing *Update* is the only way to tell Label Studio that a label is right as it is.

    Args:
        latest: The newest round.
        annotations: The annotations that count, oldest change first; an empty one confirms nothing.
        labels: The label of each task.

    Returns:
        The confirmed label, by task.
    """
    if latest is None:
        return {}
    updated = {annotation.task_id: annotation.updated_at for annotation in annotations}
    reviewed = {
        id_: labels[id_]
        for id_, seen in latest.suspected_updates.items()
        if id_ in labels and updated.get(id_, "") > seen
    }
    return {id_: label for id_, label in {**latest.confirmed, **reviewed}.items() if labels.get(id_) == label}


class Rounds:
    """A runner of rounds, which uses the store and files alone, and sends no request.

    Args:
        settings: The sizes and shares of a round.
        store: Holds projects, crops, annotations and rounds.
        files: Returns a project's files.
        embeddings: The encoder of each project.
        clock: Returns seconds since 1970.
        scorer: Returns what scores the pool in an embedding file; if None, the classifier itself does.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        files: Callable[[int], ProjectFiles],
        embeddings: Embeddings,
        clock: Callable[[], float] = time.time,
        scorer: Callable[[EmbeddingFile], Scorer] | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._files = files
        self._embeddings = embeddings
        self.switch = EncoderSwitch(store, embeddings)
        """Knows which project may change over to another encoder."""
        self._clock = clock
        self._scorer = scorer

    def run(
        self,
        project: Project,
        *,
        batch_size: int | None = None,
        versions: Sequence[str] = (),
        save: bool = True,
        switches: bool = False,
    ) -> FinishedRound | None:
        """Run one round and store it.

        Args:
            project: The project, as it is in the store.
            batch_size: How many crops to ask for; the setting's number if None.
            versions: Model versions that Label Studio holds already, never to be used again.
            save: Store the round; if False, nothing changes (`sync --dry-run`).
            switches: Run it with the encoder that the project is being switched to, and change over to that.

        Returns:
            The round; None while no crop is embedded.

        Raises:
            LabelConfigError: As for `read_input`.
        """
        project_id, files = project.id, self._files(project.id)
        found = self._read(project, switches=switches)
        if found is None:
            return None
        numbers = [version_number(name) or 0 for name in versions]
        before = max(0 if found.latest is None else found.latest.number, *numbers, 0)
        session = self._session(
            found.pool,
            found.classifier,
            batch_size or self._settings.batch_size,
            number=before,
            seed=self._settings.seed + project_id,
            scorer=None if self._scorer is None else self._scorer(found.file),
            earlier=found.heard.classifier,
        )
        found.fill(session)
        history = files.predictions(found.signature)
        session.set_previous_predictions(history)
        outcome = session.run_round()
        confirmed = self._confirmed(project_id, found)
        open_issues = (i for i in outcome.label_issues if int(found.task_at[i.index]) not in confirmed)
        outcome = replace(outcome, label_issues=tuple(open_issues))
        queue, record = self._asked(found, outcome, confirmed, save=save)
        if save:
            if outcome.probabilities is not None:
                files.save_model(record.number, session.classifier.state(), found.signature)
                files.keep_models(MODELS_KEPT, also=project.model_round)
            if outcome.predictions is not None:
                files.save_predictions(found.signature, [*history, outcome.predictions])
            files.save_queue(record.number, asdict(queue))
            check_tasks = self._check_tasks(project, session, found.task_at)
            self._save(found, outcome, record, check_tasks)
        _log(project, record)
        return FinishedRound(record, queue, found.control)

    def _save(
        self, found: RoundInput, outcome: Round, record: RoundRecord, check_tasks: Sequence[int]
    ) -> None:
        """Store a round whose model and queue are on disk, and change over to the next encoder if it is that one's."""
        project, files = found.project, self._files(found.project.id)
        if found.switches:
            self._change_over(found, None if outcome.probabilities is None else record.number)
        round_snapshot.save(files.folder, outcome, found.task_at, *found.trust())
        self._store.save_round(project.id, record, check_tasks, found.votes.resolved)
        if found.switches:
            files.keep_embeddings((found.signature, project.encoder))

    def _confirmed(self, project_id: int, found: RoundInput) -> dict[int, str]:
        """Return the labels that somebody has reviewed, in Label Studio or on the page, by task."""
        kept = {
            id_: label
            for id_, label in self._store.kept_reviews(project_id).items()
            if found.labels.get(id_) == label
        }
        return confirmed_labels(found.latest, found.counted, found.labels) | kept

    def _spot_check(self, project_id: int, found: RoundInput, *, save: bool) -> tuple[int, ...]:
        """Return the tasks of a spot check that people are asked for first."""
        folder = self._files(project_id).folder
        try:
            return spot_check.serve(
                self._store, folder, project_id, found.annotations, found.labels, save=save
            )
        except spot_check.FrozenLabelsLostError as error:
            log.error("project %s: %s", project_id, error)  # rounds go on without it; `accept` says so too
            return ()

    def _change_over(self, found: RoundInput, model_round: int | None) -> None:
        """Have a project use the encoder that it is being switched to, and the model that has just been stored."""
        from everylabel.backend.store import pool_map  # noqa: PLC0415 - takes long to load

        project, files = found.project, self._files(found.project.id)
        name = project.next_encoder
        self._store.prepare_switch(project.id, found.signature)
        own = None if name == self._settings.encoder else name
        with files.embedding_lock():  # nothing is appended meanwhile
            self._store.switch_encoder(project.id, found.signature, own, len(found.file), model_round)
        pool_map.forget(files.folder)  # of rows that are others' by now
        log.info("project %s: the encoder is %s now", project.id, name)

    def _read(self, project: Project, *, switches: bool) -> RoundInput | None:
        folder = self._files(project.id).folder
        found = read_input(self._store, project, self._embeddings, self._clock(), switches=switches)
        if found is None:
            return None
        return replace(found, heard=hear(project, folder, found.signature, found.control, found.classifier))

    def _asked(
        self, found: RoundInput, outcome: Round, confirmed: dict[int, str], *, save: bool
    ) -> tuple[Queue, RoundRecord]:
        """Return the queue that Label Studio is to serve, and the record of the round."""
        project, project_id = found.project, found.project.id
        if save:
            self._store.forget_asked(project_id, found.waited_enough())
        # The model of another encoder's rows cannot stay in use, however good it was.
        promoted = found.switches or (not project.model_pinned and self._is_no_worse(project, outcome))
        second = second_labels(self._store, found, outcome, self._settings.batch_size)
        queue = QueueMaker(
            self._settings,
            self._store,
            project_id,
            found.control,
            outcome,
            found.task_at,
            promoted,
            found.emptied(),
            n_before=outcome.n_labels - sum(id_ in found.labels for id_ in project.check_tasks),
            spot_check=self._spot_check(project_id, found, save=save),
            asked=found.asked(),
            open_rows=found.open_rows(),
            second_labels=second.asked,
            second_labels_over=second.over,
        ).make()
        record = RoundRecord(
            number=outcome.number,
            model_version=queue.model_version,
            n_labels=outcome.n_labels,
            classes=tuple(outcome.classes),
            threshold=outcome.threshold,
            asked=tuple(crop.task_id for crop in queue.asked),
            spot_check=tuple(crop.task_id for crop in queue.spot_check),
            check=tuple(crop.task_id for crop in queue.check),
            batch=tuple(crop.task_id for crop in queue.batch),
            pre_annotated=tuple(crop.task_id for crop in queue.pre_annotated),
            suspected=tuple(crop.task_id for crop in queue.suspected),
            emptied=tuple(crop.task_id for crop in queue.emptied),
            reserve=tuple(crop.task_id for crop in queue.reserve),
            second_labels=tuple(crop.task_id for crop in queue.second_labels),
            single_classes=outcome.single_classes,
            suspected_updates=_updates(found.counted, _suspected(found, outcome, queue)),
            confirmed=confirmed,
            check_set=_check_set(outcome),
            accuracy=None if outcome.accuracy is None else stored(outcome.accuracy),
            stopping=None if outcome.stopping is None else asdict(outcome.stopping),
            seconds={phase: round(seconds, 4) for phase, seconds in outcome.seconds.items()},
            finished_at=self._clock(),
            promoted=promoted,
            embedded_until=found.embedded_until,
            earlier=record_of(project, found.heard, outcome.earlier),
            encoder=found.signature,
        )
        return queue, record

    def _check_tasks(
        self, project: Project, session: ActiveLearningSession, task_at: NDArray[Any]
    ) -> list[int]:
        """List every task ever sampled for the check set; one that cannot be read at the moment stays."""
        known = {task.id for task in self._store.tasks(project.id, project.check_tasks)}
        sampled = [id_ for id_ in project.check_tasks if id_ in known]
        return sampled + [id_ for id_ in task_at[list(session.check_crops)].tolist() if id_ not in sampled]

    def _session(
        self,
        pool: NDArray[Any],
        classifier: Classifier,
        batch_size: int,
        *,
        number: int,
        seed: int,
        scorer: Scorer | None,
        earlier: Classifier | None,
    ) -> ActiveLearningSession:
        from everylabel.model.session import ActiveLearningSession  # noqa: PLC0415 - takes long to load

        return ActiveLearningSession(
            pool,
            classifier=classifier,
            batch_size=batch_size,
            check_share=self._settings.check_share,
            round_number=number,
            seed=seed,
            strategy=self._settings.strategy or DEFAULT,
            scorer=scorer,
            earlier=earlier,
        )

    def _is_no_worse(self, project: Project, outcome: Round) -> bool:
        """Return whether a model may replace the one in use: its accuracy is not below the interval of the other."""
        if project.model_round is None or outcome.check_set is None:
            return True
        in_use = self._store.round(project.id, project.model_round)
        if in_use is None or in_use.check_set is None or is_forgotten(project, in_use):
            return True
        return outcome.check_set.estimate >= in_use.check_set["low"]


def _suspected(found: RoundInput, outcome: Round, queue: Queue) -> list[int]:
    """Return the tasks with a suspect label of which somebody sees the label: in the tab, or asked for another one."""
    asked = {crop.task_id for crop in queue.second_labels}
    issues = [int(found.task_at[issue.index]) for issue in outcome.label_issues] if asked else []
    return [*(crop.task_id for crop in queue.suspected), *(id_ for id_ in issues if id_ in asked)]


def _updates(annotations: Sequence[Annotation], task_ids: Sequence[int]) -> dict[int, str]:
    """Return when the newest annotation of each of these tasks was submitted, by task."""
    newest = {annotation.task_id: annotation.updated_at for annotation in annotations}
    return {id_: newest[id_] for id_ in task_ids}


def _log(project: Project, record: RoundRecord) -> None:
    took = sum(record.seconds.values())
    log.info(
        "project %s: round %s with %s labels in %.2f s", project.id, record.number, record.n_labels, took
    )
    if words := in_words(project, record):
        log.info("project %s: began with %s", project.id, words)


def _check_set(outcome: Round) -> dict[str, float] | None:
    found = outcome.check_set
    if found is None:
        return None
    return {"estimate": found.estimate, "low": found.low, "high": found.high, "n": found.n}
