"""The `everylabel` command: each subcommand is a module of `commands/`, imported when it is asked for."""

from __future__ import annotations

import ast
import sys
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS = {
    "demo": "demo",
    "serve": "serve",
    "connect": "connect",
    "sync": "sync",
    "embed": "embed",
    "doctor": "doctor",
    "status": "status",
    "rounds": "rounds",
    "regions": "regions",
    "rollback": "rollback",
    "accept": "accept",
    "undo": "undo",
    "simulate": "simulate",
    "benchmark": "benchmark",
}
"""Command -> the module of `commands/` that holds a function of its name."""
HIDDEN = {"trainer": "serve"}


class _Commands(TyperGroup):
    """Commands that are imported when they run, so that `--help` does not wait for torch.

    Contexts are `Any` because Typer carries its own copy of click since 0.2x, and used click itself before.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in HIDDEN:
            return TyperCommand(cmd_name, hidden=True)
        return TyperCommand(cmd_name, help=_summary(cmd_name)) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        if args[0] not in COMMANDS | HIDDEN and (near := get_close_matches(args[0], COMMANDS, n=1)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and command.name:
            command = _load(command.name)
        return name, command, rest


def _summary(name: str) -> str:
    """Return what the first line of the command's module says after its name."""
    source = Path(__file__).with_name("commands").joinpath(f"{COMMANDS[name]}.py").read_text(encoding="utf-8")
    first = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
    summary = first.partition(": ")[2]
    return summary[:1].upper() + summary[1:]


def _load(name: str) -> Any:
    module = import_module(f"everylabel.scripts.commands.{(COMMANDS | HIDDEN)[name]}")
    single = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
    single.command(name)(getattr(module, name))
    return typer.main.get_command(single)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Active learning for image crops in Label Studio: with 25 labels, every one must count.",
)


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
        app()
    except RuntimeError as error:
        from everylabel.backend.store import StorageError  # noqa: PLC0415 - loaded by then, and `--help` needs none of it

        if not isinstance(error, StorageError):
            raise
        typer.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
