"""Options of `everylabel doctor`."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    project: Annotated[
        int | None,
        typer.Option(min=1, help="The number in the project's address; without, only the server is checked."),
    ] = None,
) -> None:
    """Check server, token, project, labeling config, backend, webhook, media and sampling."""
    from everylabel.scripts.commands import doctor

    doctor.run(project)
