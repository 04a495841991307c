"""Options of `everylabel accept`."""

from __future__ import annotations

from typing import Annotated

import typer

from everylabel.scripts.cli.options import DryRun, ProjectNumber, share


def accept(
    project: ProjectNumber,
    min_confidence: Annotated[
        float,
        typer.Option(min=0.5, max=1.0, help="How confident the model must be: its calibrated confidence."),
    ] = 0.98,
    at_most: Annotated[
        int, typer.Option(min=1, max=100_000, help="Crops accepted in one go, the most confident first.")
    ] = 1000,
    max_error: Annotated[
        float | None,
        typer.Option(
            parser=share,
            metavar="PERCENT",
            help="Certify instead: accept the largest set of which at most so many labels are wrong, such as 2%, after a "
            "spot check by people. Begins it, or goes on with it.",
        ),
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Drop the certificate under way.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Accept confident pre-annotations as annotations, marked as the machine's; `everylabel undo` takes them back."""
    from everylabel.scripts.commands import accept, certify

    if cancel:
        certify.cancel(project)
    elif max_error is not None:
        certify.run(project, max_error, dry_run=dry_run)
    else:
        accept.run(project, min_confidence, at_most, dry_run=dry_run)
