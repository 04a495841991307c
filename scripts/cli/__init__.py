"""The `everylabel` command: the options of each subcommand, in a file of its name; `scripts/commands/` does the work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from everylabel.scripts.cli import (
    accept,
    benchmark,
    certificate,
    connect,
    dataset,
    demo,
    doctor,
    embed,
    encoders,
    export,
    init,
    predict,
    regions,
    rollback,
    rounds,
    serve,
    simulate,
    status,
    sync,
    undo,
)
from everylabel.scripts.process_priority import run_in_the_background
from everylabel.scripts.storage_errors import in_a_sentence

COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    "demo": demo.demo,
    "serve": serve.serve,
    "init": init.init,
    "connect": connect.connect,
    "sync": sync.sync,
    "embed": embed.embed,
    "doctor": doctor.doctor,
    "status": status.status,
    "rounds": rounds.rounds,
    "regions": regions.regions,
    "rollback": rollback.rollback,
    "accept": accept.accept,
    "certificate": certificate.certificate,
    "undo": undo.undo,
    "dataset": dataset.dataset,
    "encoders": encoders.encoders,
    "export": export.export,
    "predict": predict.predict,
    "simulate": simulate.simulate,
    "benchmark": benchmark.benchmark,
}
"""In the order in which `everylabel --help` lists them."""
EMBEDDING = {"init", "connect", "sync", "embed", "encoders", "regions"}
"""Those that embed a project's crops, for minutes or hours: a trainer on the same machine comes first.

`accept`, `certificate` and `dataset` embed what is missing, which is nothing as a rule, and a person waits for each.
"""
HIDDEN: dict[str, Callable[..., None]] = {"trainer": serve.trainer}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Active learning for image crops in Label Studio: with 25 labels, every one must count.",
)
for name, command in COMMANDS.items():
    if isinstance(command, typer.Typer):  # with commands of its own
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)
for name, command in HIDDEN.items():
    app.command(name, hidden=True)(command)


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
    try:
        if EMBEDDING.intersection(sys.argv[1:2]):
            run_in_the_background(app)
        else:
            app()
    except Exception as error:
        sentence = in_a_sentence(error)
        if sentence is None:
            raise
        typer.echo(f"Error: {sentence}", err=True)
        sys.exit(1)
