"""`everylabel sync`: bring Label Studio's queue up to date now, in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from everylabel.backend.bootstrap import build
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.label_studio.publisher import QueuedCrop
from everylabel.backend.rounds.runner import FinishedRound
from everylabel.scripts.console import (
    ProjectNumber,
    console,
    counted,
    fail_for_project,
    load_settings,
    progress,
    where_unknown,
)


def sync(
    project: ProjectNumber,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=500, help="Crops to ask for in this round.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be pushed; write nothing.")
    ] = False,
) -> None:
    """Push the diverse batch, the confident pre-annotations and the suspected label issues to Label Studio."""
    backend = build(load_settings())
    try:
        with progress() as report:
            if dry_run:
                finished = backend.loop.preview(project, batch_size=batch_size, progress=report)
            else:
                finished = backend.loop.catch_up(
                    project, compare=True, force=True, batch_size=batch_size, progress=report
                )
    except (LabelStudioError, LabelConfigError, ImageError) as error:
        fail_for_project(error, backend, project)
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

    add("blind check", list(finished.queue.check))
    add("next batch", list(finished.queue.batch))
    add("to verify", list(finished.queue.pre_annotated))
    add("suspected label issue", list(finished.queue.flagged))
    return shown
