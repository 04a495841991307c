"""Options of `everylabel rollback`."""

from __future__ import annotations

from typing import Annotated

import typer

from everylabel.scripts.cli.options import ProjectNumber
from everylabel.scripts.console import fail


def rollback(
    project: ProjectNumber,
    to: Annotated[
        int | None, typer.Option(min=1, help="The round to return to; see `everylabel rounds`.")
    ] = None,
    newest: Annotated[bool, typer.Option("--newest", help="Use the newest model again.")] = False,
) -> None:
    """Return to an earlier round's model: it answers /predict, and newer ones pre-fill nothing meanwhile."""
    if (to is None) == (not newest):
        fail("Say which round to return to with --to N, or use the newest again with --newest.")
    from everylabel.scripts.commands import rollback

    rollback.run(project, to, newest=newest)
