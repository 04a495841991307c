"""Options of `everylabel rounds`."""

from __future__ import annotations

from typing import Annotated

import typer

from everylabel.scripts.cli.options import ProjectNumber


def rounds(
    project: ProjectNumber,
    last: Annotated[int, typer.Option(min=1, help="How many of the newest rounds to show.")] = 20,
) -> None:
    """List a project's rounds, newest last."""
    from everylabel.scripts.commands import rounds

    rounds.run(project, last)
