"""Options of `everylabel undo`."""

from __future__ import annotations

from typing import Annotated

import typer

from everylabel.scripts.cli.options import DryRun, ProjectNumber


def undo(
    project: ProjectNumber,
    certificate: Annotated[
        int | None, typer.Option(min=1, help="Take back only what this certificate accepted.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Delete the annotations that `everylabel accept` made, except those that somebody has edited since."""
    from everylabel.scripts.commands import undo

    undo.run(project, certificate, dry_run=dry_run)
