"""`everylabel rounds`: list a project's rounds with their figures, and which one's model is in use."""

from __future__ import annotations

from datetime import datetime, timezone

from rich.table import Table

from everylabel.backend.bootstrap import build
from everylabel.backend.rounds.accuracy import accuracy_of
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, fail
from everylabel.scripts.project_errors import searched


def run(project: int, last: int) -> None:
    """Show the newest rounds in a table."""
    backend = build(load_settings())
    known = backend.store.project(project)
    records = backend.store.rounds(project)[-last:]
    if known is None or not records:
        fail(
            f"Project {project} has no rounds. "
            f"To connect it: everylabel connect --project {project}\n{searched(backend.settings)}"
        )
    table = Table(title=f"Rounds of project {project}")
    for column in ("round", "finished", "labels", "accuracy (95 %)", "threshold", "seconds", "model"):
        table.add_column(column, justify="left" if column in ("round", "finished", "model") else "right")
    for record in records:
        finished = datetime.fromtimestamp(record.finished_at, timezone.utc).astimezone()
        found = accuracy_of(record)
        accuracy = f"{found.percent} % ({found.low_percent} to {found.high_percent} %)" if found else ""
        in_use = record.number == known.model_round
        pinned = ", rolled back to" if in_use and known.model_pinned else ""
        model = (
            f"[green]in use{pinned}[/]" if in_use else "" if record.promoted else "[yellow]not promoted[/]"
        )
        table.add_row(
            record.model_version,
            f"{finished:%Y-%m-%d %H:%M:%S}",
            str(record.n_labels),
            accuracy,
            f"{record.threshold:.2f}",
            f"{sum(record.seconds.values()):.2f}",
            model,
        )
    console.print(table)
