"""Options of `everylabel sync`."""

from __future__ import annotations

from typing import Annotated

import typer

from everylabel.scripts.cli.options import DryRun, ProjectNumber


def sync(
    project: ProjectNumber,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=500, help="Crops to ask for in this round.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Push the diverse batch, the confident pre-annotations and the suspected label issues to Label Studio."""
    from everylabel.scripts.commands import sync

    sync.run(project, batch_size, dry_run=dry_run)
