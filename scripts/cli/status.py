"""Options of `everylabel status`."""

from __future__ import annotations

from typing import Annotated

import typer


def status(
    project: Annotated[
        int | None, typer.Option(min=1, help="The number in the project's address; without, all projects.")
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the figures as JSON, a list of projects; shares are from 0 to 1."),
    ] = False,
) -> None:
    """Show where a project stands: crops, labels by class, accuracy, the newest round, and what waits."""
    from everylabel.scripts.commands import status

    status.run(project, as_json=as_json)
