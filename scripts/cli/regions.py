"""Options of `everylabel regions`."""

from __future__ import annotations

from typing import Annotated

import typer

from everylabel.scripts.console import fail


def regions(
    project: Annotated[int, typer.Option(min=1, help="The project whose pictures hold the regions.")],
    to: Annotated[
        int | None, typer.Option(min=1, help="The project of regions; without, a new one is made.")
    ] = None,
    back: Annotated[
        bool, typer.Option("--back", help="Write the regions' classes back, as predictions.")
    ] = False,
    min_confidence: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How confident the model must be of what it writes back.")
    ] = 0.9,
) -> None:
    """Make every region of a project a crop of its own, in a project to connect; --back writes classes back."""
    from everylabel.scripts.commands import regions

    if not back:
        regions.spread_out(project, to)
    elif to is None:
        fail("Say with --to which project the regions are labelled in.")
    else:
        regions.put_back(project, to, min_confidence)
