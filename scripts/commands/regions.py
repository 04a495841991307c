"""`everylabel regions`: make a project whose crops are another project's regions, and put their classes back."""

from __future__ import annotations

from everylabel.backend.bootstrap import build
from everylabel.backend.regions import region_projects
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, counted, progress
from everylabel.scripts.project_errors import exit_on_errors


def put_back(project: int, to: int, min_confidence: float) -> None:
    """Write the classes of the regions in project `to` back into the project they came from."""
    backend = build(load_settings())
    with exit_on_errors(backend, project), progress() as report:
        classified, tasks = region_projects.put_back(backend, project, to, min_confidence, report)
    console.print(
        f"Wrote the classes of {counted(classified, 'region')} on {counted(tasks, 'task')} into project {project}."
    )


def spread_out(project: int, to: int | None) -> None:
    """Make a task in project `to`, or in a new one, of every region that has none there."""
    backend = build(load_settings())
    with exit_on_errors(backend, project), progress() as report:
        number, new, left = region_projects.spread_out(backend, project, to, report)
    left_out = (
        f" Left out: {left} not on their picture, or of a kind that project {number}'s labeling config does not take."
        if left
        else ""
    )
    console.print(
        f"{counted(new, 'new region')} in project {number}.{left_out} Next: everylabel connect --project {number}, and once "
        f"they are labelled: everylabel regions --project {project} --to {number} --back"
    )
