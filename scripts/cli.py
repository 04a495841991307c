"""The `everylabel` command: one workflow a file, gathered here."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from scripts import connect, demo, doctor, serve, sync

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Active learning for image crops in Label Studio: with 25 labels, every one must count.",
)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("trainer", hidden=True)(serve.trainer)
app.command("connect")(connect.connect)
app.command("sync")(sync.sync)
app.command("doctor")(doctor.doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("everylabel"))
        raise typer.Exit()


@app.callback()
def everylabel(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave."),
    ] = False,
) -> None:
    """Take the options that come before a command."""


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
