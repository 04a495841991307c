"""Parts that all commands share: the project option, progress bars, and errors that name the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from everylabel.backend.bootstrap import Backend
from everylabel.backend.label_studio.errors import ProjectNotFoundError
from everylabel.backend.progress import Progress as Report
from everylabel.backend.settings import Settings
from everylabel.model import encoders, query

console = Console()
errors = Console(stderr=True)

DEMO_ENVIRONMENT = ".everylabel/demo/environment"
"""Where the demo writes its settings, unless it is told another folder."""

ProjectNumber = Annotated[
    int, typer.Option(min=1, help="The number in the project's address, /projects/<number>/.")
]


@contextmanager
def progress() -> Iterator[Report]:
    """Show progress bars for long work.

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
    with Progress(*columns, console=console, transient=True) as bars:
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


def load_settings(**changes: object) -> Settings:
    """Read the settings from the environment, or exit with the variable whose value is invalid.

    Args:
        changes: settings that replace those of the environment, by field name.
    """
    try:
        settings = Settings(**changes)  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        fail(f"A setting has a value it cannot have. {wrong}")
    try:
        encoders.require_known(settings.encoder)
    except ValueError as error:
        fail(f"EVERYLABEL_ENCODER: {error}")
    try:
        query.require_known(settings.strategy or query.DEFAULT)
    except ValueError as error:
        fail(f"EVERYLABEL_STRATEGY: {error}")
    return settings


def searched(settings: Settings) -> str:
    """Name the folder that was searched for projects: a wrong MODEL_DIR is the usual reason to find none."""
    return (
        f"Searched: MODEL_DIR={settings.model_dir.absolute()}. If the project is in another folder, set MODEL_DIR; "
        f"the demo's settings are in its environment file: . {DEMO_ENVIRONMENT}"
    )


def where_unknown(backend: Backend, project: int) -> str:
    """Return a sentence, to follow an error, about where the project was searched; empty where its rounds are known."""
    if backend.store.latest_round(project) is not None:
        return ""
    return f"\nNo rounds of project {project} are known. {searched(backend.settings)}"


def fail_for_project(error: Exception, backend: Backend, project: int) -> NoReturn:
    """Exit with an error from a project's work; where no such project exists, add which folder was searched."""
    missing = isinstance(error, ProjectNotFoundError)
    fail(f"{error}{where_unknown(backend, project)}" if missing else error)


def counted(n: int, what: str) -> str:
    """Return a number with its noun: `1 webhook`, `2 webhooks`."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
