"""Options of `everylabel connect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everylabel.scripts.cli.options import ProjectNumber


def connect(
    project: ProjectNumber,
    backend_url: Annotated[
        str | None, typer.Option(help="Where this backend answers, as seen from Label Studio.")
    ] = None,
    require_class: Annotated[
        bool | None,
        typer.Option(
            help="Let Label Studio refuse a submit without a class; it asks on a terminal, and else changes nothing."
        ),
    ] = None,
    second_labels: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="PEOPLE",
            help="Have Label Studio ask up to so many people about a crop: about those that another label tells most of, at most one "
            "label in five.",
        ),
    ] = None,
    no_second_labels: Annotated[
        bool, typer.Option("--no-second-labels", help="Have it ask one person about each crop again.")
    ] = False,
    hotkeys: Annotated[
        bool, typer.Option("--hotkeys", help="Let Enter submit in Label Studio, for the token's user alone.")
    ] = False,
    from_model: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="A model (.onnx) that `everylabel export` wrote: the project begins with what it knows, until its own labels "
            "outvote it. 'none' forgets it.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A table (.csv) of file names and classes: its labels become annotations of the token's user first.",
        ),
    ] = None,
) -> None:
    """Connect a Label Studio project: backend, webhook, sampling, tabs, and the first batch."""
    from everylabel.scripts.commands import connect

    if second_labels is not None and no_second_labels:
        raise typer.BadParameter("Give --second-labels or --no-second-labels, not both.")
    connect.run(
        project,
        backend_url,
        require_class=require_class,
        second_labels=1 if no_second_labels else second_labels,
        hotkeys=hotkeys,
        labels=labels,
        from_model=from_model,
    )
