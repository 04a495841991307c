"""`everylabel sync`: bring Label Studio's queue up to date now, in the foreground."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from everylabel.backend.bootstrap import build
from everylabel.backend.label_studio.publisher import QueuedCrop
from everylabel.backend.rounds.runner import FinishedRound
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, counted, progress
from everylabel.scripts.project_errors import exit_on_errors, where_unknown


def run(project: int, batch_size: int | None, *, dry_run: bool) -> None:
    """Run a round on all that is new in Label Studio, publish it and show it; with `dry_run`, store nothing of it."""
    backend = build(load_settings())
    with exit_on_errors(backend, project), progress() as report:
        if dry_run:
            finished = backend.loop.preview(project, batch_size=batch_size, progress=report)
        else:
            finished = backend.loop.catch_up(
                project, compare=True, force=True, batch_size=batch_size, progress=report
            )
    if finished is None:
        console.print(
            f"Project {project} has no crop that can be read: import tasks, or see `everylabel doctor`."
            f"{escape(where_unknown(backend, project))}",
            soft_wrap=True,
        )
        return
    console.print(table(finished))
    console.print(
        "Dry run: nothing was written." if dry_run else f"Pushed as [bold]{finished.record.model_version}[/]."
    )


def table(finished: FinishedRound) -> Table:
    """Return a round as a table, in the order in which its tasks are served."""
    record = finished.record
    shown = Table(
        title=f"{record.model_version}: {counted(record.n_labels, 'label')}, threshold {record.threshold:.2f}"
    )
    for column in ("task", "part", "shown as", "confidence"):
        shown.add_column(column, justify="right" if column == "confidence" else "left")

    def add(part: str, crops: list[QueuedCrop]) -> None:
        for crop in crops:
            confidence = f"{crop.confidence:.2f}" if crop.confidence else ""
            shown.add_row(str(crop.task_id), part, escape(crop.label or ""), confidence)

    add("second label", list(finished.queue.second_labels))
    add("blind check", list(finished.queue.check))
    add("next batch", list(finished.queue.batch))
    add("to verify", list(finished.queue.pre_annotated))
    add("suspected label issue", list(finished.queue.suspected))
    return shown
