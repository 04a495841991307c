"""Begin a project with the model of an earlier one, say what it has to say, and forget it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everylabel.backend.store import earlier_model as files_of
from everylabel.backend.store.earlier_model import EarlierModel

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.store import Project, RoundRecord, Store
    from everylabel.backend.store.files import ProjectFiles
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.earlier_model import EarlierShare
    from everylabel.model.exported.head import ExportedHead

OTHER_ENCODER = "it reads the rows of another encoder"
LOST = "its file is lost or damaged: run `everylabel connect` with --from again, or with --from none"
FEW_CLASSES = "the labeling config has fewer than two of its classes"
OTHER_KIND = "the labeling config is of another kind: one class a crop, or several"


class EarlierModelError(ValueError):
    """A project cannot begin with a model; the message says why and the way out, and nothing was changed."""


@dataclass(frozen=True)
class Taken:
    """A model that fits a project."""

    model: EarlierModel
    state: Mapping[str, Any]
    known: tuple[str, ...]
    """Its classes that the labeling config has."""
    left_out: tuple[str, ...]
    """Its classes that the labeling config lacks."""
    unknown: tuple[str, ...]
    """Classes of the labeling config that it does not know."""


@dataclass(frozen=True)
class Heard:
    """The classifier that a project began with, as a round can use it: it answers with classes of the labeling config alone."""

    classifier: Classifier | None
    why_not: str = ""
    """Why there is none although the project began with one."""


NONE_BEGUN = Heard(None)
"""The project began without a model."""


def take(path: Path, project_id: int, name: str, embeddings: Embeddings, control: ImageChoices) -> Taken:
    """Read an exported model, and check that a project can begin with it; nothing is changed.

    Args:
        path: The file that `everylabel export` wrote.
        project_id: The project; messages name it.
        name: The encoder of the project.
        embeddings: The encoders.
        control: The choices of its labeling config.

    Raises:
        EarlierModelError: It cannot be read, or does not fit.
        EncoderError: The project's encoder cannot be loaded.
    """
    from everylabel.model.exported.head import HeadError, read_head  # noqa: PLC0415 - takes long to load

    try:
        head = read_head(path)
    except HeadError as error:
        raise EarlierModelError(str(error)) from error
    _check_kind(head, path, control)
    _check_encoder(head, path, project_id, name, embeddings, control)
    known = tuple(one for one in head.classes if one in control.classes)
    left_out = tuple(one for one in head.classes if one not in control.classes)
    if _restricted(head.state, control) is None:
        raise EarlierModelError(
            f"{path} knows {_listed(head.classes)}, and the labeling config of project {project_id} has {_listed(control.classes)}: "
            f"{'no class' if not known else 'only one class'} in common. It takes two, by exactly the same names: rename classes in "
            "the labeling config, or begin without a model."
        )
    model = EarlierModel(path.name, head.digest, head.encoder, head.kind, head.classes, head.origin)
    unknown = tuple(one for one in control.classes if one not in head.classes)
    return Taken(model, head.state, known, left_out, unknown)


def check_origin(taken: Taken, path: Path, project_id: int, title: str) -> None:
    """Check that a model is of another project: the labels it has learned would decide how far it is believed.

    Args:
        taken: The model.
        path: Its file; messages name it.
        project_id: The project.
        title: Its title in Label Studio: projects of other servers may have the same number.

    Raises:
        EarlierModelError: It is of this one.
    """
    if taken.model.origin.get("project") == {"id": project_id, "title": title}:
        raise EarlierModelError(
            f"{path} was made by this project, {project_id}. The labels that decide how far it is believed are those it has "
            "learned: it would be believed too much, and the accuracy stated would be too high. The labels themselves bring its "
            f"own model back: run everylabel connect --project {project_id} without --from."
        )


def begin_with(store: Store, files: ProjectFiles, project_id: int, taken: Taken) -> None:
    """Have a project begin with a model; the next round, which is due now, listens to it."""
    with files.lock():
        files_of.save(files.folder, taken.model.digest, taken.state)
        store.save_project(project_id, earlier_model=taken.model.stored())
        files_of.keep(files.folder, taken.model.digest)
    _ask_for_a_round(store, project_id)


def forget(store: Store, files: ProjectFiles, project_id: int) -> EarlierModel | None:
    """Have a project forget the model it began with; the next round is run without it.

    Returns:
        What was forgotten; None if there was none.
    """
    project = store.project(project_id)
    model = None if project is None else files_of.stored_model(project.earlier_model)
    if model is not None:
        with files.lock():
            store.save_project(project_id, earlier_model=None)
            files_of.keep(files.folder, None)
        _ask_for_a_round(store, project_id)
    return model


def unchecked_classes(
    record: RoundRecord | None, labels: Mapping[int, str], control: ImageChoices
) -> set[str]:
    """Return the classes of which too few labels have checked what is predicted, where an earlier model has a say.

    Args:
        record: The round of the model in use.
        labels: The label of each task.
        control: The choices of the labeling config.
    """
    from everylabel.model.earlier_model import ENOUGH  # noqa: PLC0415 - takes long to load

    if not has_say(record):
        return set()
    counts = Counter(name for label in labels.values() for name in control.names(label))
    return {name for name in control.classes if counts[name] < ENOUGH}


def has_say(record: RoundRecord | None) -> bool:
    """Return whether an earlier model has a share in what the model of a round predicts."""
    return record is not None and record.earlier is not None and float(record.earlier["share"]) > 0


def heard_in(project: Project, record: RoundRecord) -> dict[str, Any] | None:
    """Return which earlier model has a say in the model of a round, and its share; None where none has.

    Its file's name is empty where the project has begun with another one since, or has forgotten it.
    """
    told, now = record.earlier, files_of.stored_model(project.earlier_model)
    if told is None or not has_say(record):
        return None
    name = now.file if now is not None and now.digest == told["digest"] else ""
    return {"file": name, "sha256": told["digest"], "share": float(told["share"])}


def is_forgotten(project: Project, record: RoundRecord) -> bool:
    """Return whether the model of a round listens to another earlier model than the one its project has now, or to one it has no more."""
    heard = heard_in(project, record)
    return heard is not None and not heard["file"]


def in_use(store: Store, project: Project) -> RoundRecord | None:
    """Return the round of the model in use, by which is told what an earlier model has to say; the newest while there is none."""
    number = project.model_round
    return store.latest_round(project.id) if number is None else store.round(project.id, number)


def _ask_for_a_round(store: Store, project_id: int) -> None:
    """Have the trainer run a round, should whoever connects the project be cut off."""
    project = store.project(project_id)
    if project is not None and project.connected:
        store.add_event(project_id, "START_TRAINING", {})


def hear(
    project: Project, folder: Path, signature: str, control: ImageChoices, untrained: Classifier
) -> Heard:
    """Return the classifier that a project began with, for a round.

    Args:
        project: The project.
        folder: Its files.
        signature: Of the encoder whose rows the round reads.
        control: The choices of the labeling config.
        untrained: The project's classifier.
    """
    model = files_of.stored_model(project.earlier_model)
    if model is None:
        return NONE_BEGUN
    from everylabel.model.exported.head import kind_of  # noqa: PLC0415 - takes long to load

    if model.encoder != signature or model.kind != kind_of(untrained):
        return Heard(None, OTHER_ENCODER if model.encoder != signature else OTHER_KIND)
    state = files_of.load(folder, model.digest)
    if state is None:
        return Heard(None, LOST)
    kept = _restricted(state, control)
    return Heard(None, FEW_CLASSES) if kept is None else Heard(untrained.fresh().load_state(kept))


def figures(project: Project, record: RoundRecord | None) -> dict[str, Any] | None:
    """Return what a project began with and what that has to say now, for programs; None if it began without a model."""
    model = files_of.stored_model(project.earlier_model)
    if model is None:
        return None
    told = {} if record is None or record.earlier is None else record.earlier
    heard = told.get("digest") == model.digest
    return {
        "file": model.file,
        "sha256": model.digest,
        "origin": model.origin,
        "classes": list(model.classes),
        "share": float(told["share"]) if heard else None,
        "reason": str(told["reason"]) if heard else "no round has been run with it yet",
        "round": record.number if heard and record is not None else None,
    }


def in_words(project: Project, record: RoundRecord | None) -> str:
    """Return what a project began with and what that has to say now, in a sentence; empty if it began without a model."""
    found = figures(project, record)
    if found is None:
        return ""
    share = found["share"]
    if share is None:
        say = "its share is decided"
    elif share == 1:
        say = "it answers alone"
    elif share:
        say = f"it has a share of {share:.0%} in what is predicted"
    else:
        say = "it has no say"
    return f"{found['file']}{_origin(found['origin'])}: {say}: {found['reason']}"


def record_of(project: Project, heard: Heard, found: EarlierShare | None) -> dict[str, Any] | None:
    """Return what a round's record holds of the model that its project began with.

    Args:
        project: The project, as the round read it.
        heard: The classifier, or why there is none.
        found: What it had to say.
    """
    model = files_of.stored_model(project.earlier_model)
    if model is None:
        return None
    share, reason = (0.0, heard.why_not) if found is None else (found.share, found.reason)
    return {"digest": model.digest, "share": share, "reason": reason}


def _check_kind(head: ExportedHead, path: Path, control: ImageChoices) -> None:
    if head.reads != control.kind:
        raise EarlierModelError(
            f"{path} is a model of {head.reads}s, and this project is one of {control.kind}s. Export a model of such a project."
        )
    if head.multiple != control.multiple:
        told = 'is of several classes a crop (choice="multiple")'
        other = "is of one class a crop"
        model, project = (told, other) if head.multiple else (other, told)
        raise EarlierModelError(
            f"{path} {model}, and this project {project}. Export a model of a project of the same kind."
        )


def _check_encoder(
    head: ExportedHead, path: Path, project_id: int, name: str, embeddings: Embeddings, control: ImageChoices
) -> None:
    from everylabel.backend.rounds.models import make_classifier  # noqa: PLC0415 - takes long to load
    from everylabel.model.exported.head import kind_of  # noqa: PLC0415 - takes long to load

    encoder = embeddings.named(name)
    if head.encoder != encoder.signature:
        theirs = head.encoder.split(" ", 1)[0]
        raise EarlierModelError(
            f"{path} was made with the encoder {theirs!r} ({head.encoder}), and project {project_id} uses {name!r} ({encoder.signature}). "
            f"Have the project use that one: everylabel encoders --project {project_id} --switch {theirs}, or "
            f"EVERYLABEL_ENCODER={theirs} for all projects."
        )
    if not head.is_of(encoder) or head.kind != kind_of(make_classifier(control, encoder)):
        raise EarlierModelError(
            f"{path} was made with an encoder that is called {name!r} like the one of project {project_id}, but has other weights, "
            "or prepares crops in another way. Its head reads other numbers: export it again with this encoder."
        )


def _restricted(state: Mapping[str, Any], control: ImageChoices) -> dict[str, Any] | None:
    from everylabel.model.exported.head import restricted  # noqa: PLC0415 - takes long to load

    return restricted(state, frozenset(control.classes))


def _origin(origin: Mapping[str, Any]) -> str:
    project = origin.get("project")
    if not isinstance(project, dict) or "id" not in project:
        return ""
    labels = f", {origin['labels']} labels" if "labels" in origin else ""
    return f" (project {project['id']}{labels})"


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
