"""Options of `everylabel encoders`."""

from __future__ import annotations

from typing import Annotated

import typer

from everylabel.scripts.cli.options import ProjectNumber


def encoders(
    project: ProjectNumber,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Try this one too, beside the one in use and our other image encoders; repeatable. `hf:` and a model's "
            "name or folder, package.module:Class, or a plugin's name."
        ),
    ] = None,
    labels: Annotated[
        int, typer.Option(min=25, help="Compare on at most so many labelled crops, drawn by chance.")
    ] = 1000,
    sample: Annotated[
        int,
        typer.Option(
            min=0, help="Embed so many crops without a label besides: they say what the pool looks like."
        ),
    ] = 300,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    switch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Compare nothing, and have the project use this encoder: crops are embedded with it in the background, and "
            "it takes over between two rounds. The name of the one in use calls that off.",
        ),
    ] = None,
) -> None:
    """Compare encoders on a project's own labels: how often each is right, how fast it is, and what a switch would change."""
    from everylabel.scripts.commands import encoders, switch_encoder

    if switch is not None:
        switch_encoder.run(project, switch)
        return
    encoders.run(project, encoder or [], labels=labels, sample=sample, as_json=as_json)
