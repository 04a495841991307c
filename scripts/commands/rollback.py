"""`everylabel rollback`: return to an earlier round's model, until `--newest` takes the newest again."""

from __future__ import annotations

from everylabel.backend.bootstrap import build
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
        kept = backend.files(project).models()
        if newest:
            backend.store.save_project(project, model_pinned=False, model_round=kept[-1] if kept else None)
        elif to in kept:
            backend.store.save_project(project, model_pinned=True, model_round=to)
        else:
            known = ", ".join(map(str, kept)) or "none"
            if backend.store.round(project, to or 0) is None:
                fail(f"Project {project} has had no round {to}. There are models of: {known}.")
            fail(f"The model of round {to} is no longer kept. There are models of: {known}.")
        # The queue in Label Studio still carries what the other model has pre-filled.
        backend.store.add_event(project, "START_TRAINING", {})
    if newest:
        console.print("The newest model is in use again.")
    else:
        console.print(
            f"The model of {version_name(to or 0)} is in use. New rounds go on choosing crops, but pre-fill nothing. "
            f"To use the newest model again: everylabel rollback --project {project} --newest"
        )
