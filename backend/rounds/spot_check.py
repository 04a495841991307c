"""The spot check of a certificate: which crops people are asked for, and what their answers say so far.

An answer is right if the label of the crop, as `labels.py` decides it, is the machine's frozen label; of several
classes on a crop all must be the same. A crop that was skipped, submitted without a class, deleted or that cannot be read
counts as wrong as long as it has no label. So does one that people have passed over: a crop asked for before another
that is answered. That can only make a certificate harder to get.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from everylabel.backend.store import frozen_labels
from everylabel.backend.store.certificates import CHECKING
from everylabel.model.evaluation.certificate import Strata, Tally
from everylabel.model.evaluation.spot_check import SpotCheckPlan, plan_next_look

if TYPE_CHECKING:
    from everylabel.backend.store import Annotation, CertificateRecord, Store
    from everylabel.backend.store.frozen_labels import FrozenLabels

SERVED = 10
"""How many crops of a spot check wait for a label at a time: enough for several annotators."""


class CertificateError(RuntimeError):
    """There is nothing to certify, or a certificate cannot go on; the message says what to do."""


class FrozenLabelsLostError(CertificateError):
    """The file with the frozen labels is missing or damaged."""


@dataclass(frozen=True)
class SpotCheck:
    """A spot check that goes on, as the labels of one moment leave it."""

    record: CertificateRecord
    frozen: FrozenLabels
    answers: tuple[bool | None, ...]
    """For each look: whether the machine was right, or None while nobody has said so."""
    unanswerable: frozenset[int]
    """The looks, by their place, at crops without a label that nobody is asked for any more: they count as wrong."""

    @cached_property
    def strata(self) -> Strata:
        """The strata that the crops were divided into."""
        record = self.record
        return Strata(record.sizes, record.expected, record.max_error, record.confidence)

    @cached_property
    def tally(self) -> Tally:
        """The looks up to the last one that is answered; one among them without an answer counts as wrong."""
        answered = [
            i for i, answer in enumerate(self.answers) if answer is not None or i in self.unanswerable
        ]
        return self._tally(answered[-1] + 1 if answered else 0, without_answer=False)

    @cached_property
    def expected_tally(self) -> Tally:
        """The same if the machine is right wherever an answer is still to come: what is asked next depends on it."""
        return self._tally(len(self.answers), without_answer=True)

    @cached_property
    def plan(self) -> SpotCheckPlan:
        """The plan by what counts; a set is certified only by this one."""
        return plan_next_look(self.strata, self.tally)

    @cached_property
    def expected_plan(self) -> SpotCheckPlan:
        """The plan if the answers to come are right."""
        return plan_next_look(self.strata, self.expected_tally)

    @property
    def open_tasks(self) -> tuple[int, ...]:
        """The tasks that people are asked for, in order."""
        return tuple(self.record.looks[place] for place in self._open)

    @property
    def has_failed(self) -> bool:
        """True if no set can be certified with fewer looks than it has crops."""
        return self.expected_plan.is_over and not self.expected_plan.certified and not self.plan.certified

    def extended(self) -> SpotCheck:
        """Return the spot check with further crops sampled, until enough of them wait or none is needed."""
        check = self
        while len(check._open) < SERVED and not check.plan.certified:
            stratum = check.expected_plan.stratum
            if stratum is None:
                break
            record = check.record
            first = sum(record.sizes[:stratum])
            task = int(check.frozen.tasks[first + record.strata.count(stratum)])
            record = replace(record, looks=(*record.looks, task), strata=(*record.strata, stratum))
            check = replace(check, record=record, answers=(*check.answers, None))
        return check

    def tasks_of(self, target: int) -> tuple[int, ...]:
        """Return the tasks of a set, looked at or not."""
        return tuple(self.frozen.tasks[: sum(self.record.sizes[: target + 1])].tolist())

    @property
    def _open(self) -> list[int]:
        answers = enumerate(self.answers)
        return [i for i, answer in answers if answer is None and i not in self.unanswerable]

    def _tally(self, until: int, *, without_answer: bool) -> Tally:
        looks, wrong = (np.zeros(len(self.record.sizes), dtype=np.int64) for _ in range(2))
        for place, (stratum, answer) in enumerate(zip(self.record.strata, self.answers, strict=True)):
            if place < until:
                right = without_answer if answer is None else answer
                looks[stratum] += 1
                wrong[stratum] += not right or place in self.unanswerable
        return Tally(looks, wrong)


def read(
    store: Store,
    folder: Path,
    project_id: int,
    record: CertificateRecord,
    annotations: Sequence[Annotation],
    labels: Mapping[int, str],
) -> SpotCheck:
    """Read a spot check and what people have answered.

    Args:
        store: Holds the tasks.
        folder: The folder of the project's files.
        project_id: The project.
        record: The certificate.
        annotations: All annotations of the project.
        labels: The label of each task that has one.

    Raises:
        FrozenLabelsLostError: The file with the frozen labels is missing or damaged.
    """
    frozen = frozen_labels.load(folder, record.number)
    if frozen is None or len(frozen.tasks) != sum(record.sizes):
        raise FrozenLabelsLostError(
            f"The machine labels of certificate {record.number} are missing or damaged, so it cannot go on. Begin anew: "
            f"everylabel accept --project {project_id} --cancel"
        )
    starts = np.cumsum([0, *record.sizes]).tolist()
    annotated = {annotation.task_id for annotation in annotations}
    readable = {task.id for task in store.tasks(project_id, record.looks) if task.problem is None}
    answers: list[bool | None] = []
    unanswerable = set()
    for place, (task, stratum) in enumerate(zip(record.looks, record.strata, strict=True)):
        position = starts[stratum] + record.strata[:place].count(stratum)
        given = labels.get(task)
        answers.append(None if given is None else given == frozen.label(position))
        if given is None and (task in annotated or task not in readable):
            unanswerable.add(place)
    return SpotCheck(record, frozen, tuple(answers), frozenset(unanswerable))


def serve(
    store: Store,
    folder: Path,
    project_id: int,
    annotations: Sequence[Annotation],
    labels: Mapping[int, str],
    *,
    save: bool,
) -> tuple[int, ...]:
    """Return the tasks that people are to be asked for first, after sampling as many as are needed.

    Args:
        store: Holds the certificate under way, if there is one.
        folder: The folder of the project's files.
        project_id: The project.
        annotations: All annotations of the project.
        labels: The label of each task that has one.
        save: Store which crops were sampled.

    Raises:
        FrozenLabelsLostError: The file with the frozen labels is missing or damaged.
    """
    record = store.certificate_under_way(project_id)
    if record is None or record.state != CHECKING:
        return ()
    check = read(store, folder, project_id, record, annotations, labels).extended()
    if save and check.record != record:
        store.save_certificate(project_id, check.record)
    # Once it is decided, the crops still open are left to the batches.
    return () if check.plan.certified or check.has_failed else check.open_tasks
