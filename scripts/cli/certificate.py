"""Options of `everylabel certificate`."""

from __future__ import annotations

from typing import Annotated

import typer

from everylabel.scripts.cli.options import ProjectNumber


def certificate(
    project: ProjectNumber,
    number: Annotated[int | None, typer.Option(min=1, help="Which one; without, the newest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Print a certificate of `everylabel accept --max-error`, for a customer to file: what, how many, by whom, the bound."""
    from everylabel.scripts.commands import certificate

    certificate.run(project, number, as_json=as_json)
