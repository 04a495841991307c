"""`everylabel regions`: make a project whose crops are another project's regions, and put their classes back."""

from __future__ import annotations

from typing import Annotated

import typer

from everylabel.backend.bootstrap import build
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.regions.region_projects import put_back, spread_out
from everylabel.scripts.console import console, fail, load_settings, progress


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
    backend = build(load_settings())
    if back and to is None:
        fail("Say with --to which project the regions are labelled in.")
    try:
        with progress() as report:
            if back and to is not None:
                classified, tasks = put_back(backend, project, to, min_confidence, report)
            else:
                number, new, left = spread_out(backend, project, to, report)
    except (LabelStudioError, LabelConfigError, ImageError) as error:
        fail(error)
    if back:
        console.print(f"Wrote the classes of {classified} regions on {tasks} tasks into project {project}.")
        return
    left_out = (
        f" {left} are left out: not on their picture, or of a kind that project {number}'s labeling config does not take."
        if left
        else ""
    )
    console.print(
        f"{new} regions are new in project {number}.{left_out} Next: everylabel connect --project {number}, and once "
        f"they are labelled: everylabel regions --project {project} --to {number} --back"
    )
