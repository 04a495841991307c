"""Certificates: freeze the machine's labels, have a random part of them checked by people, and accept the rest.

A certificate is about the machine's labels as they were when it began: later rounds, and labels given in the spot check,
do not change what it says. `model/evaluation/certificate.py` has the bound, `spot_check.py` what people are asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.acceptance_mark import certified_version
from everylabel.backend.label_studio.annotators import annotator_name, names_by_id
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.rounds import bulk_accept, spot_check
from everylabel.backend.rounds.bulk_accept import Acceptable, NothingLearnedError
from everylabel.backend.rounds.certificate_words import progress_in_words, summary
from everylabel.backend.rounds.labels import counted_annotations, current_labels
from everylabel.backend.rounds.pool_predictions import predict_pool
from everylabel.backend.rounds.rare_classes import rare_classes
from everylabel.backend.rounds.spot_check import CertificateError
from everylabel.backend.store import frozen_labels
from everylabel.backend.store.certificates import (
    ACCEPTED,
    CANCELLED,
    CERTIFIED,
    CHECKING,
    FAILED,
    TAKEN_BACK,
    CertificateRecord,
)
from everylabel.backend.store.frozen_labels import FrozenLabels
from everylabel.model.evaluation.certificate import Tally
from everylabel.model.evaluation.spot_check import Cost, expected_cost, plan_next_look, stratify

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.label_studio.client import LabelStudio
    from everylabel.backend.progress import Progress
    from everylabel.backend.rounds.live_loop import LiveLoop
    from everylabel.backend.rounds.models import Models
    from everylabel.backend.rounds.pool_predictions import PoolPredictions
    from everylabel.backend.rounds.spot_check import SpotCheck
    from everylabel.backend.settings import Settings
    from everylabel.backend.store import Project, RoundRecord, Store
    from everylabel.backend.store.files import ProjectFiles
    from everylabel.model.classifiers.base import Classifier


class _Store(Protocol):
    """The parts of a backend that reading a certificate uses."""

    @property
    def store(self) -> Store: ...
    @property
    def files(self) -> Callable[[int], ProjectFiles]: ...


@dataclass(frozen=True)
class StoreAndFiles:
    """These parts alone, for what has no whole backend."""

    store: Store
    files: Callable[[int], ProjectFiles]


class _Parts(_Store, Protocol):
    """The parts of a backend that certificates use."""

    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Callable[[], float]: ...
    @property
    def label_studio(self) -> LabelStudio: ...
    @property
    def embeddings(self) -> Embeddings: ...
    @property
    def models(self) -> Models: ...
    @property
    def loop(self) -> LiveLoop: ...


def begin(
    parts: _Parts, project_id: int, max_error: float, *, dry_run: bool = False
) -> tuple[CertificateRecord, Cost]:
    """Freeze the machine's labels of all crops that nobody has labelled, and divide them into strata.

    Left out are blind check crops, and crops predicted as a class with a single label, as for bulk accept.

    Args:
        parts: The backend.
        project_id: The project.
        max_error: The highest share of wrong labels to accept, 0 to 1.
        dry_run: Store nothing.

    Returns:
        The certificate, whose spot check the next round serves, and what it will probably cost.

    Raises:
        NothingLearnedError: The project has no model yet.
        CertificateError: No set of crops is worth a spot check.
    """
    project, model = parts.store.project(project_id), parts.models.of(project_id)
    latest = parts.store.latest_round(project_id)
    if project is None or project.model_round is None or model is None or latest is None:
        raise NothingLearnedError(f"Project {project_id} has no model yet. Label crops of two classes first.")
    control = label_config.parse(project.label_config)
    found = _machine_labels(parts, project, model, latest)
    if not len(found.tasks):
        raise CertificateError(f"Project {project_id} has no crop without a label that could be accepted.")
    strata, crops = stratify(found.confidence.astype(np.float64), max_error)
    plan = plan_next_look(strata, Tally.empty(len(crops)))
    if plan.is_over:
        raise CertificateError(_not_worth_it(len(found.tasks), max_error, plan.expected_error))
    number = 1 + max((record.number for record in parts.store.certificates(project_id)), default=0)
    record = CertificateRecord(
        number=number,
        state=CHECKING,
        max_error=max_error,
        confidence=strata.confidence,
        model_round=project.model_round,
        classes=control.classes,
        sizes=strata.sizes,
        expected=strata.expected,
        began_at=parts.clock(),
    )
    if not dry_run:
        rng = np.random.default_rng([parts.settings.seed, project_id, number])
        order = np.concatenate([rng.permutation(part) for part in crops])
        frozen = FrozenLabels(found.tasks[order], found.best[order], found.confidence[order], found.classes)
        frozen_labels.save(parts.files(project_id).folder, number, frozen)
        parts.store.save_certificate(project_id, record)
    return record, expected_cost(strata, plan)


def read(parts: _Store, project_id: int, record: CertificateRecord) -> SpotCheck:
    """Read how far a spot check is, by the labels in the store.

    Raises:
        FrozenLabelsLostError: The file with the frozen labels is missing or damaged.
        CertificateError: The classes of the labeling config have changed since it began.
    """
    project = parts.store.project(project_id)
    control = label_config.parse("" if project is None else project.label_config)
    if {*control.classes} != {*record.classes}:
        raise CertificateError(
            f"The classes of the labeling config have changed since certificate {record.number} began, so its labels mean "
            f"something else. Begin anew: everylabel accept --project {project_id} --cancel"
        )
    annotations = parts.store.annotations(project_id)
    labels = current_labels(parts.store, project_id, annotations, control.classes)
    folder = parts.files(project_id).folder
    return spot_check.read(parts.store, folder, project_id, record, annotations, labels)


def conclude(parts: _Parts, project_id: int, check: SpotCheck) -> CertificateRecord:
    """Store that a spot check has certified a set or failed, and what was found; nothing else while it goes on."""
    record = check.record
    if record.state != CHECKING or not (check.plan.certified or check.has_failed):
        return record
    plan = check.plan
    state = CERTIFIED if plan.certified else FAILED
    finished = None if plan.certified else parts.clock()
    record = replace(record, state=state, finished_at=finished, result=_result(parts, project_id, check))
    parts.store.save_certificate(project_id, record)
    return record


def accept(
    parts: _Parts, project_id: int, record: CertificateRecord, progress: Progress | None = None
) -> CertificateRecord:
    """Write annotations for the crops of a certified set that nobody has looked at, marked with its number.

    A crop that a person has labelled meanwhile, or is being asked about, is left to them. If this is interrupted, the next
    call goes on with the rest.

    Raises:
        LabelStudioError: Label Studio did not accept a chunk; the chunks before it are written.
        FrozenLabelsLostError: The file with the frozen labels is missing or damaged.
    """
    check = read(parts, project_id, record)
    inside, looked_at = check.tasks_of(int(record.result["target"])), {*record.looks}
    url_of = {task.id: task.image_url for task in parts.store.tasks(project_id, inside)}
    crops = [
        Acceptable(task, check.frozen.label(place), float(check.frozen.confidences[place]), url_of[task])
        for place, task in enumerate(inside)
        if task not in looked_at and task in url_of
    ]
    bulk_accept.accept(parts, project_id, crops, progress, version=certified_version(record.number))
    if crops:
        bulk_accept.save_tab(parts.label_studio, project_id)
    return record


def finish(parts: _Parts, project_id: int, record: CertificateRecord) -> CertificateRecord:
    """Store that the crops of a certificate are accepted, once their annotations are in the store."""
    result = {**record.result, "accepted": still_accepted(parts, project_id, record)}
    record = replace(record, state=ACCEPTED, finished_at=parts.clock(), result=result)
    parts.store.save_certificate(project_id, record)
    return record


def cancel(parts: _Parts, project_id: int) -> CertificateRecord | None:
    """Drop the certificate under way; the labels given in its spot check stay. Return it, or None if there is none."""
    record = parts.store.certificate_under_way(project_id)
    if record is None:
        return None
    record = replace(record, state=CANCELLED, finished_at=parts.clock())
    parts.store.save_certificate(project_id, record)
    return record


def still_accepted(parts: _Parts, project_id: int, record: CertificateRecord) -> int:
    """Return how many crops of a certified set have the machine's label now, unseen and unedited."""
    frozen = frozen_labels.load(parts.files(project_id).folder, record.number)
    if frozen is None or "target" not in record.result:
        return 0
    inside = {*frozen.tasks[: sum(record.sizes[: int(record.result["target"]) + 1])].tolist()} - {
        *record.looks
    }
    return len({a.task_id for a in parts.store.annotations(project_id) if a.accepted} & inside)


def describe(parts: _Store, project_id: int) -> str:
    """Return how far the newest certificate is, why it cannot go on, or how it ended; empty if there is none."""
    records = parts.store.certificates(project_id)
    if not records:
        return ""
    record = records[-1]
    if record.state != CHECKING:
        return f"{record.number}, {summary(record)}"
    try:
        return f"{record.number}, {progress_in_words(read(parts, project_id, record))}"
    except (CertificateError, LabelConfigError) as error:
        return f"{record.number}: {error}"


def problem(parts: _Store, project_id: int) -> str | None:
    """Return why the certificate under way cannot go on, or None."""
    record = parts.store.certificate_under_way(project_id)
    try:
        if record is not None:
            read(parts, project_id, record)
    except CertificateError as error:
        return str(error)
    return None


def mark_taken_back(parts: _Parts, project_id: int) -> None:
    """Store which certificates have no accepted crop left, after `everylabel undo`."""
    for record in parts.store.certificates(project_id):
        if record.state == ACCEPTED and not still_accepted(parts, project_id, record):
            parts.store.save_certificate(project_id, replace(record, state=TAKEN_BACK))


def _machine_labels(
    parts: _Parts, project: Project, model: Classifier, latest: RoundRecord
) -> PoolPredictions:
    """Return the predictions of all crops that could be accepted."""
    store, control = parts.store, label_config.parse(project.label_config)
    labels = current_labels(store, project.id, store.annotations(project.id), control.classes)
    rare = rare_classes(labels, control.classes, control.names, project.check_tasks)
    predicted = predict_pool(store, parts.embeddings, project, model)
    found = predicted.confident(0.0, control, {*latest.single_classes, *rare.single, *rare.missing})
    closed = np.fromiter({*store.annotated_tasks(project.id), *project.check_tasks}, dtype=np.int64)
    free = ~np.isin(found.tasks, closed)
    return replace(found, tasks=found.tasks[free], best=found.best[free], confidence=found.confidence[free])


def _result(parts: _Parts, project_id: int, check: SpotCheck) -> dict[str, Any]:
    """Return what the spot check found in the set that was certified, or in the best one."""
    plan, record = check.plan, check.record
    looks, wrong = check.tally.looks[: plan.target + 1], check.tally.wrong[: plan.target + 1]
    return {
        "target": plan.target,
        "crops": sum(record.sizes[: plan.target + 1]),
        "looks": int(looks.sum()),
        "wrong": int(wrong.sum()),
        "unanswered": sum(record.strata[place] <= plan.target for place in check.unanswerable),
        "wrong_at_most": plan.wrong_at_most,
        "looks_in_all": len(check.answers) - len(check.open_tasks),
        "checked_by": _checked_by(parts, project_id, check),
        "certified_at": parts.clock(),
    }


def _checked_by(parts: _Parts, project_id: int, check: SpotCheck) -> dict[str, int]:
    """Return how many crops of the spot check each person has labelled, by name."""
    names, looks = names_by_id(parts.store), {*check.record.looks}
    counted = counted_annotations(parts.store.annotations(project_id), check.record.classes)
    people = {(a.annotator, a.task_id) for a in counted if a.task_id in looks}
    found = Counter(annotator_name(annotator, names) for annotator, _ in people)
    return dict(found.most_common())


def _not_worth_it(crops: int, max_error: float, expected: float) -> str:
    return (
        f"No set of the {crops} crops without a label is worth a spot check at {max_error:.1%}: it would take about as many "
        f"looks as it saves labels (of the most confident crops about {expected:.1%} are expected to be wrong). Label more "
        "crops first, or accept more errors with a higher --max-error."
    )
