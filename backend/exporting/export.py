"""Export a project's model in use: the ONNX file, and its card for people and for programs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everylabel.backend.exporting.card import ExportedParts, describe
from everylabel.backend.exporting.card_words import in_words
from everylabel.backend.rounds.earlier_model import has_say
from everylabel.backend.store.atomic_write import write_together
from everylabel.model.exported.compose import to_onnx
from everylabel.model.exported.model_file import TOKENIZER
from everylabel.model.exported.novelty import of_rows

if TYPE_CHECKING:
    from everylabel.backend.rounds.parts import PredictingParts
    from everylabel.backend.store import Project, RoundRecord
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.exported.novelty import Novelty

SUFFIX = ".onnx"


class ExportError(RuntimeError):
    """There is nothing to export, or nowhere to write it; the message says what to do."""


def export_model(parts: PredictingParts, project_id: int, path: Path) -> dict[str, Any]:
    """Write the model that answers `/predict`, with its card beside it, and of texts the tokenizer: all files, or none.

    Args:
        parts: a backend's parts.
        project_id: the project.
        path: where the model goes, ending in `.onnx`.

    Returns:
        The card.

    Raises:
        ExportError: there is no model yet, or the path cannot be written.
        NotExportableError: the encoder or the classifier has no form in ONNX.
        LabelConfigError: nothing in the labeling config classifies an image or a text.
    """
    if path.suffix != SUFFIX:
        raise ExportError(f"{path} does not end in {SUFFIX}: write, for example, -o model{SUFFIX}.")
    project, classifier, record = _in_use(parts, project_id)
    encoder = parts.embeddings.named(parts.embeddings.name(project))
    novelty = _novelty(parts, project, by_direction=classifier.space is not None)
    card = describe(parts, project, ExportedParts(classifier, encoder, novelty, record))
    # Where the earlier model answers alone, the head is none of this project's labels.
    own = not (has_say(record) and classifier.head is classifier)
    model = to_onnx(encoder, classifier, novelty, _metadata(card), with_head=own)
    if (now := parts.store.project(project_id)) is None or now.encoder != project.encoder:
        raise ExportError(f"The encoder of project {project_id} was switched meanwhile. Export it again.")
    card["file"] = {
        "name": path.name,
        "bytes": len(model),
        "sha256": hashlib.sha256(model).hexdigest(),
    }
    texts = {path.with_suffix(".json"): json.dumps(card, indent=2, ensure_ascii=False) + "\n"}
    texts[path.with_suffix(".md")] = in_words(card)
    if (tokenizer := encoder.tokenizer()) is not None:
        texts[path.with_suffix(TOKENIZER)] = tokenizer
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_together({**{name: text.encode() for name, text in texts.items()}, path: model})
    except OSError as error:
        raise ExportError(
            f"{path} cannot be written ({error.strerror or error}): nothing was changed."
        ) from error
    return card


def _in_use(parts: PredictingParts, project_id: int) -> tuple[Project, Classifier, RoundRecord]:
    project = parts.store.project(project_id)
    if project is None or project.model_round is None:
        raise ExportError(
            f"Project {project_id} has no model yet. A model needs labels of two classes: label some crops, and see "
            f"`everylabel status --project {project_id}`."
        )
    classifier, record = parts.models.of(project_id), parts.store.round(project_id, project.model_round)
    if classifier is None or record is None:
        raise ExportError(
            f"The model of round {project.model_round} is not one for the encoder {parts.embeddings.name(project)!r}, or its "
            f"file is lost. Have the project use the encoder that its crops were embedded with, {project.encoder!r} "
            f"(everylabel encoders --project {project_id} --switch NAME, or EVERYLABEL_ENCODER for all projects), "
            f"or run a round with this one: everylabel sync --project {project_id}"
        )
    return project, classifier, record


def _novelty(parts: PredictingParts, project: Project, *, by_direction: bool) -> Novelty | None:
    _, rows = parts.store.embedding_rows(project.id)
    return of_rows(parts.embeddings.read(project.id), rows, by_direction=by_direction, seed=project.id)


def _metadata(card: Mapping[str, Any]) -> dict[str, str]:
    """Return what the ONNX file says of itself, so that it can be told where it comes from without its card."""
    kept = ("everylabel", "made_at", "project", "round", "trained_at", "labels", "accuracy", "calibration")
    return {"card": json.dumps({name: card[name] for name in kept}, ensure_ascii=False)}
