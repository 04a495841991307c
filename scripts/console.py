"""Parts that all commands print with: the console, progress bars, errors, and numbers with their nouns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from everylabel.backend.progress import Progress as Report

console = Console()
errors = Console(stderr=True)


@contextmanager
def progress(on: Console = console) -> Iterator[Report]:
    """Show progress bars for long work.

    Args:
        on: where they are shown.

    Yields:
        A function to call with (what, done, total).
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    if not on.is_terminal:
        # Bars would leave nothing but blank lines in a file.
        yield lambda what, done, total: None
        return
    with Progress(*columns, console=on, transient=True) as bars:
        shown: dict[str, int] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in shown:
                shown[what] = int(bars.add_task(what, total=total))
            bars.update(bars.task_ids[list(shown).index(what)], completed=done, total=total)

        yield report


def fail(error: Exception | str, code: int = 1) -> NoReturn:
    """Print an error and exit.

    Args:
        error: what is wrong and what to do about it.
        code: the exit status.

    Raises:
        typer.Exit: always.
    """
    errors.print(f"[bold red]Error:[/] {_plain(str(error))}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def counted(n: int, what: str) -> str:
    """Return a number with its noun: `1 webhook`, `2 webhooks`."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
