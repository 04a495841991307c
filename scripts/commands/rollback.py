"""`everylabel rollback`: return to an earlier round's model, until `--newest` takes the newest again."""

from __future__ import annotations

from everylabel.backend.bootstrap import Backend, build
from everylabel.backend.label_studio.publisher import version_name
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, fail
from everylabel.scripts.project_errors import searched


def run(project: int, to: int | None, *, newest: bool) -> None:
    """Use the model of round `to`, or the newest again."""
    backend = build(load_settings())
    with backend.files(project).lock():
        latest = backend.store.latest_round(project)
        if latest is None:
            fail(
                f"Project {project} has no rounds. "
                f"To connect it: everylabel connect --project {project}\n{searched(backend.settings)}"
            )
        kept, known = backend.files(project).models(), backend.store.project(project)
        if known is not None and known.next_encoder is not None and not newest:
            fail(
                f"Project {project} is being switched to the encoder {known.next_encoder}, which needs a newer model. Wait "
                f"until it is, or call it off: everylabel encoders --project {project} --switch {backend.embeddings.name(known)}"
            )
        if newest:
            backend.store.save_project(project, model_pinned=False, model_round=kept[-1] if kept else None)
        elif to in kept and _is_of_another_encoder(backend, project, to):
            fail(
                f"The model of round {to} was trained for another encoder; the project now uses {backend.embeddings.name(known)}. "
                f"To go back to the other one: everylabel encoders --project {project} --switch NAME"
            )
        elif to in kept:
            backend.store.save_project(project, model_pinned=True, model_round=to)
        else:
            there = ", ".join(map(str, kept)) or "none"
            if backend.store.round(project, to or 0) is None:
                fail(f"Project {project} has had no round {to}. There are models of: {there}.")
            fail(f"The model of round {to} is no longer kept. There are models of: {there}.")
        # The queue in Label Studio still carries what the other model has pre-filled.
        backend.store.add_event(project, "START_TRAINING", {})
    if newest:
        console.print("The newest model is in use again.")
    else:
        console.print(
            f"The model of {version_name(to or 0)} is in use. New rounds go on choosing crops, but pre-fill nothing. "
            f"To use the newest model again: everylabel rollback --project {project} --newest"
        )


def _is_of_another_encoder(backend: Backend, project_id: int, number: int) -> bool:
    signature = backend.embeddings.encoder(project_id).signature
    return backend.files(project_id).load_model(number, signature) is None
