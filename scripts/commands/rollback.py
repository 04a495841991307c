"""`everylabel rollback`: return to an earlier round's model, until `--newest` takes the newest again."""

from __future__ import annotations

from typing import Annotated

import typer

from everylabel.backend.bootstrap import build
from everylabel.backend.label_studio.publisher import version_name
from everylabel.scripts.console import ProjectNumber, console, fail, load_settings, searched


def rollback(
    project: ProjectNumber,
    to: Annotated[
        int | None, typer.Option(min=1, help="The round to return to; see `everylabel rounds`.")
    ] = None,
    newest: Annotated[bool, typer.Option("--newest", help="Use the newest model again.")] = False,
) -> None:
    """Return to an earlier round's model: it answers /predict, and newer ones pre-fill nothing meanwhile."""
    backend = build(load_settings())
    if (to is None) == (not newest):
        fail("Say which round to return to with --to N, or use the newest again with --newest.")
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
                fail(f"Project {project} has had no round {to}. Models are kept of: {known}.")
            fail(f"The model of round {to} is not kept any more. Models are kept of: {known}.")
        # The queue in Label Studio still carries what the other model has pre-filled.
        backend.store.add_event(project, "START_TRAINING", {})
    if newest:
        console.print("The newest model is in use again.")
    else:
        console.print(
            f"The model of {version_name(to or 0)} is in use. New rounds go on choosing crops, but pre-fill nothing. "
            f"To use the newest model again: everylabel rollback --project {project} --newest"
        )
