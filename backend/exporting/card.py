"""The card of an exported model: what it was trained on, how good it is, and what it must not be used for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from everylabel.backend.label_studio import label_config
from everylabel.backend.rounds.accuracy import accuracy_of
from everylabel.backend.rounds.earlier_model import has_say, heard_in
from everylabel.backend.rounds.labels import counted_annotations, current_labels
from everylabel.model.exported.novelty import FLAGGED

if TYPE_CHECKING:
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.rounds.parts import PredictingParts
    from everylabel.backend.store import Annotation, Project, RoundRecord
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.encoders import Encoder
    from everylabel.model.exported.novelty import Novelty

ON_THE_REST = (
    "estimated for the crops of the pool that nobody has labelled, from the calibrated confidences, as replays of labelling "
    "on other data sets showed them to hold, and from the blind check crops"
)
ON_CHECK_CROPS = (
    "counted on the blind check crops: sampled uniformly from the pool, labelled without a pre-annotation, each predicted "
    "by a model that had not been trained on it"
)
CALIBRATED = "scores of labels left out of the fit, then restated as how often such a prediction was right in replays of labelling"
CALIBRATED_BY_CLASS = "scores of labels left out of the fit, one class at a time; the probability of a set of classes is their product"
ON_THE_REST_WITH_EARLIER = (
    "from the confidences on the crops nobody has labelled, which an earlier model has a part in and no replay of labelling has "
    "calibrated, and from the blind check crops; the interval is twice as wide for it"
)
WITH_EARLIER = (
    "a mixture with the probabilities of an earlier model that the project began with, weighed by labels left out of the fit; "
    "no replay of labelling restated it"
)
UNCALIBRATED = "none: the softmax of a network trained whole, which is often too confident"
NOT_FOR = (
    "{Things} of another kind than those it was trained on: nothing here holds for them. The output `novelty` is above 1 "
    "for {things} that are unlike all of the pool; it does not see every change.",
    "{Things} of a class it does not know: it answers with one of its classes, however confident.",
    "Decisions that harm somebody when they are wrong, unless a person checks each of them.",
    "Decisions about people that the law forbids or binds to conditions, such as recognising or rating them.",
)


@dataclass(frozen=True)
class ExportedParts:
    """The parts of the file that a card is about."""

    classifier: Classifier
    encoder: Encoder
    novelty: Novelty | None
    record: RoundRecord


def describe(parts: PredictingParts, project: Project, made: ExportedParts) -> dict[str, Any]:
    """Return the card of a project's model, as JSON holds it.

    Args:
        parts: the store and the embeddings.
        project: the project.
        made: what is exported.
    """
    control = label_config.parse(project.label_config)
    things = "texts" if made.encoder.reads == "text" else "pictures"
    annotations = parts.store.annotations(project.id)
    labels = current_labels(parts.store, project.id, annotations, control.classes)
    return {
        "everylabel": version("everylabel"),
        "made_at": _iso(datetime.now(timezone.utc).timestamp()),
        "project": {"id": project.id, "title": project.title},
        "round": made.record.number,
        "trained_at": _iso(made.record.finished_at),
        "classes": list(made.classifier.classes_),
        "labels": _labels(project, control, annotations, labels, made.record),
        "accuracy": _accuracy(made.record),
        "earlier_model": heard_in(project, made.record),
        "calibration": {"how": _calibrated(made.classifier, made.record)}
        | _on_check_crops(parts, project, made.classifier, labels),
        "novelty": _novelty(made.novelty),
        "encoder": {
            "name": made.encoder.name,
            "rows": made.encoder.signature,
            "licence": made.encoder.licence,
        },
        "reads": made.encoder.reads,
        "not_for": [words.format(things=things, Things=things.capitalize()) for words in NOT_FOR],
    }


def _labels(
    project: Project,
    control: ImageChoices,
    annotations: Sequence[Annotation],
    labels: Mapping[int, str],
    record: RoundRecord,
) -> dict[str, Any]:
    counted = counted_annotations(annotations, control.classes)
    # Users by number: whoever gets the card learns no name and no address.
    given = Counter(annotation.annotator for annotation in counted)
    changed = sorted(annotation.updated_at for annotation in counted)
    names = Counter(name for label in labels.values() for name in control.names(label))
    return {
        "trained_on": record.n_labels,
        "now": len(labels),
        "by_class": {name: names[name] for name in control.classes},
        "by_user": [{"user": user, "annotations": number} for user, number in given.most_common()],
        "first": changed[0] if changed else None,
        "last": changed[-1] if changed else None,
        "check_crops": sum(id_ in labels for id_ in project.check_tasks),
        "accepted_in_bulk": sum(annotation.accepted for annotation in annotations),
    }


def _accuracy(record: RoundRecord) -> dict[str, Any] | None:
    found = accuracy_of(record)
    if found is None:
        return None
    return {
        "estimate": found.estimate,
        "low": found.low,
        "high": found.high,
        "interval": 0.95,
        "how": ON_CHECK_CROPS
        if not found.n_crops
        else ON_THE_REST_WITH_EARLIER
        if has_say(record)
        else ON_THE_REST,
        "n_crops": found.n_crops,
        "check_crops": {"n": found.n, "correct": found.correct},
        "contradicted": found.contradicted,
        "by_class": [asdict(one) for one in found.by_class],
        "confusions": [asdict(one) for one in found.confusions],
    }


def _calibrated(classifier: Classifier, record: RoundRecord) -> str:
    if has_say(record):
        return WITH_EARLIER
    if classifier.closed_form:
        return CALIBRATED
    return UNCALIBRATED if classifier.space is None else CALIBRATED_BY_CLASS


def _on_check_crops(
    parts: PredictingParts, project: Project, classifier: Classifier, labels: Mapping[int, str]
) -> dict[str, Any]:
    """Return stated confidence beside what was right on the check crops; empty where a fit would take minutes."""
    from everylabel.model.evaluation.accuracy import calibration_error  # noqa: PLC0415 - takes long to load
    from everylabel.model.evaluation.check_set import predict_check_crops  # noqa: PLC0415

    tasks, rows = parts.store.embedding_rows(project.id)
    row_of = dict(zip(tasks.tolist(), rows.tolist(), strict=True))
    known = [id_ for id_ in labels if id_ in row_of]
    if not classifier.closed_form or not known:
        return {}
    pool = parts.embeddings.read(project.id)
    found = predict_check_crops(
        classifier,
        pool[np.asarray([row_of[id_] for id_ in known])],
        [labels[id_] for id_ in known],
        np.isin(known, project.check_tasks),
    )
    if found is None:
        return {}
    return {
        "n": len(found.right),
        "mean_confidence": float(found.confidences.mean()),
        "right": float(found.right.mean()),
        "expected_calibration_error": calibration_error(found.confidences, found.right),
    }


def _novelty(found: Novelty | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "how": "distance to the nearest of the references, embeddings of crops of the pool, as a multiple of the threshold",
        "references": len(found.references),
        "threshold": found.threshold,
        "measured_on": found.n_measured,
        "flagged_at_most": FLAGGED,
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
