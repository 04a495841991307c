"""Options of `everylabel dataset` and `everylabel dataset diff`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Labels(str, Enum):
    """The labels that are exported, each with those before it."""

    people = "people"
    certified = "certified"
    accepted = "accepted"
    all = "all"


dataset = typer.Typer(invoke_without_command=True)


@dataset.callback()
def export(
    context: typer.Context,
    project: Annotated[
        int | None, typer.Option(min=1, help="The number in the project's address, /projects/<number>/.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The folder to make; it appears when it is whole.", file_okay=False
        ),
    ] = None,
    copy: Annotated[
        bool,
        typer.Option(
            "--copy", help="Fetch the crops into class folders; without, their addresses are listed."
        ),
    ] = False,
    labels: Annotated[
        Labels,
        typer.Option(
            help="Which labels: people's; those a certificate covers too; those accepted above a confidence too; "
            "or pseudo-labels too."
        ),
    ] = Labels.certified,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of an older data set in the folder.")
    ] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Name annotators as Label Studio does, perhaps by e-mail address.")
    ] = False,
) -> None:
    """Export what is labelled as a data set: who or what said each label, and the blind check crops as its test set."""
    if context.invoked_subcommand is not None:
        return
    if project is None or output is None:
        missing = "--project" if project is None else "--output"
        raise typer.BadParameter(f"say {missing}, as in: everylabel dataset --project 7 -o DIR")
    from everylabel.scripts.commands import dataset

    dataset.run(project, output, labels=labels.value, copy=copy, replace=replace, names=names)


@dataset.command()
def diff(
    before: Annotated[Path, typer.Argument(help="The folder of a data set.")],
    after: Annotated[Path, typer.Argument(help="The folder of a later one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Compare two data sets of a project: the labels that came, went and changed."""
    from everylabel.scripts.commands import dataset

    dataset.compare(before, after, as_json=as_json)
