"""`everylabel undo`: take back what `everylabel accept` accepted and nobody has edited since."""

from __future__ import annotations

from typing import Annotated

import typer

from everylabel.backend.bootstrap import build
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.rounds import bulk_accept
from everylabel.scripts.console import (
    ProjectNumber,
    console,
    counted,
    fail_for_project,
    load_settings,
    progress,
)


def undo(
    project: ProjectNumber,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
) -> None:
    """Delete the annotations that `everylabel accept` made, except those that somebody has edited since."""
    backend = build(load_settings())
    try:
        with progress() as report:
            undone = bulk_accept.undo(backend, project, dry_run=dry_run, progress=report)
            if not dry_run:
                backend.loop.catch_up(project, compare=True, progress=report)
    except (LabelStudioError, LabelConfigError, ImageError) as error:
        fail_for_project(error, backend, project)
    stays = ""
    if undone.kept:
        stays = f" {undone.kept} that somebody has edited since {'stays' if undone.kept == 1 else 'stay'}."
    annotations = counted(undone.taken_back, "annotation")
    if dry_run:
        console.print(f"Dry run: {annotations} would be taken back.{stays}")
    else:
        crops = "its crop is" if undone.taken_back == 1 else "their crops are"
        console.print(f"Took back {annotations}; {crops} open again.{stays}")
