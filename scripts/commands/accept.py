"""`everylabel accept`: turn confident pre-annotations into annotations, in bulk and marked as the machine's."""

from __future__ import annotations

from itertools import groupby

from rich.markup import escape
from rich.table import Table

from everylabel.backend.bootstrap import build
from everylabel.backend.rounds import bulk_accept
from everylabel.backend.rounds.bulk_accept import Acceptable, NothingLearnedError
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, counted, fail, progress
from everylabel.scripts.project_errors import exit_on_errors, where_unknown


def run(project: int, min_confidence: float, at_most: int, *, dry_run: bool) -> None:
    """Accept the most confident crops and show them by class; with `dry_run`, show them alone."""
    backend = build(load_settings())
    version = ""
    try:
        with exit_on_errors(backend, project), progress() as report:
            if dry_run:
                backend.loop.sync(project, report)
            else:
                backend.loop.catch_up(project, compare=True, progress=report)
            with backend.files(project).lock():  # no round in between
                crops, left = bulk_accept.acceptable(backend, project, min_confidence, at_most)
            if not dry_run:
                accepted = bulk_accept.accept(backend, project, crops, report)
                crops, version = list(accepted.crops), accepted.version
            if crops and not dry_run:
                bulk_accept.save_tab(backend.label_studio, project)
                backend.loop.catch_up(project, compare=True, progress=report)
    except NothingLearnedError as error:
        fail(f"{error}{where_unknown(backend, project)}")
    if not crops:
        console.print(f"The model is confident at {min_confidence:.0%} of no crop that is still open.")
        return
    console.print(table(crops, min_confidence))
    more = f" {left} more {'is' if left == 1 else 'are'} confident enough: run it again." if left else ""
    if dry_run:
        console.print(f"Dry run: nothing was written.{more}")
        return
    console.print(
        f"Accepted {counted(len(crops), 'crop')} with the model of "
        f"[bold]{version.removeprefix('accepted, ')}[/]; see the tab [bold]{bulk_accept.ACCEPTED}[/]. They count as "
        f"the machine's labels: not for training, accuracy or the audit. Take them back with: everylabel undo "
        f"--project {project}.{more}"
    )


def table(crops: list[Acceptable], min_confidence: float) -> Table:
    """Return a table of the accepted crops by class, with the number expected to be wrong."""
    shown = Table(title=f"{counted(len(crops), 'crop')} at {min_confidence:.0%} and above")
    shown.add_column("class")
    for column in ("crops", "least confident", "expected wrong", "task, for example"):
        shown.add_column(column, justify="right")

    def add(name: str, some: list[Acceptable]) -> None:
        least = min(some, key=lambda crop: crop.confidence)
        wrong = sum(1.0 - crop.confidence for crop in some)
        shown.add_row(name, str(len(some)), f"{least.confidence:.1%}", f"{wrong:.1f}", str(least.task_id))

    for label, group in groupby(sorted(crops, key=lambda crop: crop.label), key=lambda crop: crop.label):
        add(escape(label), list(group))
    shown.add_section()
    add("all", crops)
    return shown
