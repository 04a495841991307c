"""Runs a round for a project: Label Studio's state -> the learning core -> Label Studio's queue."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.embedding.embeddings import check_encoder
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.label_config import ImageChoices, LabelConfigError
from everylabel.backend.label_studio.publisher import Queue, QueuedCrop, version_name, version_number
from everylabel.backend.rounds.empty_annotations import former_labels
from everylabel.backend.rounds.labels import (
    closed_tasks,
    counted_annotations,
    resolve_labels,
    weigh_disagreements,
)
from everylabel.backend.rounds.models import make_classifier
from everylabel.backend.store import Annotation, Project, RoundRecord, Store, round_snapshot
from everylabel.backend.store.task_rows import CropRows
from everylabel.model.pseudo_labels.pre_annotated import mix_in
from everylabel.model.query import DEFAULT

if TYPE_CHECKING:
    from everylabel.backend.embedding.executor import Scorer
    from everylabel.backend.settings import Settings
    from everylabel.backend.store.files import EmbeddingFile, ProjectFiles
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.encoders import Encoder
    from everylabel.model.session import ActiveLearningSession, Round

log = logging.getLogger(__name__)

MODELS_KEPT = 20


@dataclass(frozen=True)
class FinishedRound:
    """A round that has been run and kept, and the queue it asks Label Studio to serve."""

    record: RoundRecord
    queue: Queue
    control: ImageChoices


def confirmed_labels(
    latest: RoundRecord | None, annotations: Sequence[Annotation], labels: Mapping[int, str]
) -> dict[int, str]:
    """Return the labels somebody has submitted again since they were flagged: they are not flagged again.

    Label Studio's *Update* is the one word a person has for "it is right as it is".

    Args:
        latest: the newest round.
        annotations: those that count, oldest change first: an empty one reviews nothing.
        labels: the label of each task.
    """
    if latest is None:
        return {}
    updated = {annotation.task_id: annotation.updated_at for annotation in annotations}
    reviewed = {
        id_: labels[id_]
        for id_, seen in latest.flagged_updates.items()
        if id_ in labels and updated.get(id_, "") > seen
    }
    return {id_: label for id_, label in {**latest.confirmed, **reviewed}.items() if labels.get(id_) == label}


class Rounds:
    """Runs rounds on what the store holds; talks to no one."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        files: Callable[[int], ProjectFiles],
        encoder: Callable[[], Encoder],
        clock: Callable[[], float] = time.time,
        scorer: Callable[[EmbeddingFile], Scorer] | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._files = files
        self._encoder = encoder
        self._clock = clock
        self._scorer = scorer

    def run(
        self,
        project_id: int,
        *,
        batch_size: int | None = None,
        versions: Sequence[str] = (),
        save: bool = True,
    ) -> FinishedRound | None:
        """Run one round and keep it; None while there is no crop to look at.

        Args:
            project_id: the project, known to the store.
            batch_size: crops to ask for; the setting's number if None.
            versions: version names Label Studio holds already, never to be used again.
            save: keep the round; without, nothing changes (`sync --dry-run`).

        Raises:
            LabelConfigError: nothing in the labeling config classifies an image.
        """
        project = self._store.project(project_id)
        if project is None:
            raise LabelConfigError(
                f"Project {project_id} is not connected. Run: everylabel connect --project {project_id}"
            )
        control = label_config.parse(project.label_config)
        check_encoder(control, self._settings.encoder)
        encoder = self._encoder()
        file = self._files(project_id).embeddings(encoder.signature, encoder.dim, encoder.dtype)
        until = self._store.embedded_until(project_id, len(file))  # first: what comes meanwhile counts as new
        embedded, rows = self._store.embedding_rows(project_id)
        if not len(embedded):
            return None
        latest = self._store.latest_round(project_id)
        before = max(latest.number if latest else 0, *(version_number(name) or 0 for name in versions), 0)
        annotations = self._store.annotations(project_id)
        pool = file.read()
        classifier = make_classifier(control, encoder)
        crops = CropRows(embedded, rows, len(pool))
        row_of = crops.row_of({annotation.task_id for annotation in annotations} | {*project.check_tasks})
        counted = counted_annotations(annotations, control.classes)
        resolved = weigh_disagreements(counted, row_of, pool, classifier)
        labels = resolve_labels(annotations, control.classes, resolved)
        session = self._session(
            pool,
            classifier,
            batch_size or self._settings.batch_size,
            number=before,
            seed=self._settings.seed + project_id,
            scorer=None if self._scorer is None else self._scorer(file),
        )
        task_at = crops.task_at
        session.exclude(np.flatnonzero(task_at == 0))
        session.exclude(row_of[id_] for id_ in closed_tasks(annotations, labels) if id_ in row_of)
        labeled = [(row_of[id_], label) for id_, label in sorted(labels.items()) if id_ in row_of]
        session.add_labels([row for row, _ in labeled], [label for _, label in labeled])
        session.set_check_crops([row_of[id_] for id_ in project.check_tasks if id_ in row_of])
        files = self._files(project_id)
        history = files.predictions(encoder.signature)
        session.set_previous_predictions(history)
        outcome = session.run_round()
        confirmed = confirmed_labels(latest, counted, labels)
        open_issues = tuple(i for i in outcome.label_issues if int(task_at[i.index]) not in confirmed)
        outcome = replace(outcome, label_issues=open_issues)

        promoted = not project.model_pinned and self._is_no_worse(project_id, project.model_round, outcome)
        emptied = {
            row_of[id_]: label
            for id_, label in former_labels(annotations, labels, control).items()
            if id_ in row_of
        }
        n_before = outcome.n_labels - sum(id_ in labels for id_ in project.check_tasks)
        queue = self._queue(project_id, control, outcome, task_at, promoted, emptied, n_before)
        record = RoundRecord(
            number=outcome.number,
            model_version=queue.model_version,
            n_labels=outcome.n_labels,
            classes=tuple(outcome.classes),
            threshold=outcome.threshold,
            check=tuple(crop.task_id for crop in queue.check),
            batch=tuple(crop.task_id for crop in queue.batch),
            pre_annotated=tuple(crop.task_id for crop in queue.pre_annotated),
            flagged=tuple(crop.task_id for crop in queue.flagged),
            emptied=tuple(crop.task_id for crop in queue.emptied),
            single_classes=outcome.single_classes,
            flagged_updates=_updates(counted, [crop.task_id for crop in queue.flagged]),
            confirmed=confirmed,
            check_set=_check_set(outcome),
            stopping=None if outcome.stopping is None else asdict(outcome.stopping),
            seconds={phase: round(seconds, 4) for phase, seconds in outcome.seconds.items()},
            finished_at=self._clock(),
            promoted=promoted,
            embedded_until=until,
        )
        if save:
            if outcome.probabilities is not None:
                files.save_model(record.number, session.classifier.state(), encoder.signature)
                files.keep_models(MODELS_KEPT, also=project.model_round)
            if outcome.predictions is not None:
                files.save_predictions(encoder.signature, [*history, outcome.predictions])
            round_snapshot.save(files.folder, outcome, task_at)
            files.save_queue(record.number, asdict(queue))
            self._store.save_round(project_id, record, self._drawn(project, session, task_at), resolved)
        log.info(
            "project %s: round %s with %s labels in %.2f s",
            project_id,
            record.number,
            record.n_labels,
            sum(record.seconds.values()),
        )
        return FinishedRound(record, queue, control)

    def _drawn(self, project: Project, session: ActiveLearningSession, task_at: NDArray[Any]) -> list[int]:
        """List every task ever drawn for the check set; one that cannot be read at the moment stays."""
        known = {task.id for task in self._store.tasks(project.id, project.check_tasks)}
        drawn = [id_ for id_ in project.check_tasks if id_ in known]
        return drawn + [id_ for id_ in task_at[list(session.check_crops)].tolist() if id_ not in drawn]

    def _session(
        self,
        pool: NDArray[Any],
        classifier: Classifier,
        batch_size: int,
        *,
        number: int,
        seed: int,
        scorer: Scorer | None,
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
        )

    def _is_no_worse(self, project_id: int, model_round: int | None, outcome: Round) -> bool:
        """Whether a model may replace the one in use: its accuracy is not below that one's interval."""
        if model_round is None or outcome.check_set is None:
            return True
        in_use = self._store.round(project_id, model_round)
        if in_use is None or in_use.check_set is None:
            return True
        return outcome.check_set.estimate >= in_use.check_set["low"]

    def _queue(
        self,
        project_id: int,
        control: ImageChoices,
        outcome: Round,
        task_at: NDArray[Any],
        promoted: bool,
        emptied: Mapping[int, str],
        n_before: int,
    ) -> Queue:
        """Make the queue of a round; a model that is not promoted orders it, but pre-fills nothing.

        Args:
            project_id: the project.
            control: what the labeling config asks.
            outcome: what the round found.
            task_at: (n,) the task of each pool row.
            promoted: whether its model comes into use.
            emptied: the label that each row had before its annotation became empty.
            n_before: how many labels there are, those of check crops left out.
        """
        asked = {*outcome.batch, *outcome.check}
        sure = (label for label in outcome.pseudo_labels if label.index not in asked)
        surest = list(islice(sure, self._settings.pre_annotations_per_round if promoted else 0))
        batch = mix_in(
            outcome.batch,
            [label.index for label in surest],
            n_before=n_before,
            share=self._settings.pre_annotated_share,
        )
        asked |= {*batch}
        confident = [label for label in reversed(surest) if label.index not in asked]
        flagged = outcome.label_issues[: self._settings.flags_per_round]
        lost = dict(islice(emptied.items(), self._settings.flags_per_round))
        rows = [*asked, *(label.index for label in confident), *(issue.index for issue in flagged), *lost]
        tasks = self._store.tasks(project_id, task_at[rows].tolist())
        url_of = {task.id: task.image_url for task in tasks}
        alone = {*outcome.single_classes}

        def queued(row: int, label: str | None, confidence: float) -> QueuedCrop:
            task_id = int(task_at[row])
            return QueuedCrop(task_id, label, float(confidence), url_of.get(task_id))

        def asked_for(row: int) -> QueuedCrop:
            if outcome.probabilities is None:
                return queued(row, None, 0.0)
            best = int(np.argmax(outcome.probabilities[row]))
            confidence = float(outcome.probabilities[row, best])
            label = outcome.classes[best]
            # A guess below the threshold is not pre-filled: it would pull the annotator's hand.
            sure = promoted and confidence >= outcome.threshold
            checked = alone.isdisjoint(control.names(label))
            return queued(row, label if sure and checked else None, confidence)

        return Queue(
            model_version=version_name(outcome.number),
            check=[queued(row, None, 0.0) for row in outcome.check],
            batch=[asked_for(row) for row in batch],
            pre_annotated=[queued(p.index, p.label, p.confidence) for p in confident],
            flagged=[queued(issue.index, issue.suggested_label, 1.0 - issue.score) for issue in flagged],
            emptied=[queued(row, label, 1.0) for row, label in lost.items()],
        )


def _updates(annotations: Sequence[Annotation], task_ids: Sequence[int]) -> dict[int, str]:
    """When the newest annotation of each of these tasks was submitted."""
    newest = {annotation.task_id: annotation.updated_at for annotation in annotations}
    return {id_: newest[id_] for id_ in task_ids}


def _check_set(outcome: Round) -> dict[str, float] | None:
    found = outcome.check_set
    if found is None:
        return None
    return {"estimate": found.estimate, "low": found.low, "high": found.high, "n": found.n}
