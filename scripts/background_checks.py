"""Checks of `everylabel doctor` of what goes on in the background: requests, webhooks, files, and faults nobody sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from everylabel.backend.store import LONG_WAIT_SECONDS, faults
from everylabel.backend.store.annotations import submitted_at
from everylabel.backend.store.damaged_files import found_aside
from everylabel.backend.store.database import waited
from everylabel.scripts.console import counted

if TYPE_CHECKING:
    from everylabel.backend.bootstrap import Backend

UNANNOUNCED = 2
"""So many comparisons in a row must find labels no webhook told of: one does after the backend was down."""


class CheckFailedError(RuntimeError):
    """A check found a fault; the message says what it is and what to do."""


def claims(backend: Backend) -> str:
    """Check that the trainers of several machines can agree on who runs which round."""
    backend.jobs.check_claims()
    return f"Redis answers; {counted(backend.jobs.waiting(), 'request')} waiting"


def files(backend: Backend) -> str:
    """Check for databases that were damaged: whatever overwrote them may do so again."""
    aside = found_aside(backend.settings.model_dir)
    if aside:
        raise CheckFailedError(
            f"Damaged and made anew in {backend.settings.model_dir}; set aside: {', '.join(path.name for path in aside)}. "
            "No label is lost. Check the disk, then delete what was set aside."
        )
    return "no database was damaged"


def waiting(backend: Backend, project_id: int | None) -> str:
    """Check for webhooks that nobody handles, for labels that are not sent, and for what stops each project."""
    store, stuck, total = backend.store, [], 0
    known = {project.id: project for project in store.projects()}
    asked = sorted({*known, *store.projects_with_events()}) if project_id is None else [project_id]
    for id_ in asked:
        waiting, age = store.events_waiting(id_)
        total += waiting
        problem = known[id_].problem if id_ in known else None
        if age >= LONG_WAIT_SECONDS:
            why = problem or "the trainer's log says why"
            stuck.append(
                f"project {id_}: {counted(waiting, 'webhook')} not processed, the oldest for {age / 60:.0f} min ({why})"
            )
        if unsent := _unsent_labels(backend, id_):
            stuck.append(unsent)
        if (
            age < LONG_WAIT_SECONDS and problem and project_id is None
        ):  # of one that is named, the check of its rounds says it
            stuck.append(f"project {id_}: {problem}")
    age = backend.jobs.longest_wait()
    if age >= LONG_WAIT_SECONDS:
        stuck.append(
            f"a request to the trainer has waited for {age / 60:.0f} min (the trainer's log says why)"
        )
    if stuck:
        raise CheckFailedError("; ".join(stuck))
    return (
        f"{counted(total, 'webhook')} waiting to be processed, none for long" if total else "no webhook waits"
    )


def _unsent_labels(backend: Backend, project_id: int) -> str:
    """Return what is wrong with labels of confirmed pages that Label Studio should have by now; empty if nothing is."""
    late = [
        label
        for label in backend.store.labels_to_do(project_id)
        if waited(submitted_at(label.given_at) or 0.0, backend.clock()) >= LONG_WAIT_SECONDS
    ]
    if not late:
        return ""
    people = ", ".join(str(annotator) for annotator in sorted({label.annotator for label in late}))
    return (
        f"project {project_id}: {counted(len(late), 'label')} of confirmed pages not sent to Label Studio. They count, and are "
        f"sent once Label Studio answers and takes the token of who gave them (annotator {people}): have them sign in again "
        f"at /projects/{project_id}/label"
    )


def background(backend: Backend, project_id: int | None) -> str:
    """Check for faults in the background, which stop nobody and would not be noticed otherwise."""
    found = []
    for id_ in [p.id for p in backend.store.projects()] if project_id is None else [project_id]:
        folder = backend.files(id_).folder
        if (fault := faults.find(folder, faults.WEBHOOKS)) is not None and fault.times >= UNANNOUNCED:
            found.append(
                f"project {id_}: no webhook has told of the labels that the last {fault.times} comparisons with Label Studio "
                f"found. Does Label Studio reach {backend.settings.public_url}? If not, set EVERYLABEL_PUBLIC_URL to where "
                f"it does, restart, and run: everylabel connect --project {id_}. (Labels imported with their tasks send none.)"
            )
        if (fault := faults.find(folder, faults.IMAGES)) is not None and backend.store.tasks_to_embed(id_):
            found.append(f"project {id_}: crops are left out. {fault.what}")
        if (fault := faults.find(folder, faults.MAP)) is not None:
            found.append(f"project {id_}: its map could not be drawn ({fault.what}). Rounds go on without it")
    if found:
        raise CheckFailedError("; ".join(found))
    return "no fault in maps, images and webhooks"


def crops(backend: Backend, project_id: int | None) -> tuple[str, str | None]:
    """Count the crops that cannot be read: nobody is asked for them.

    Returns:
        What was found, and a warning if there are any.
    """
    store, total, found = backend.store, 0, []
    for id_ in [project.id for project in store.projects()] if project_id is None else [project_id]:
        counts = store.count_tasks(id_)
        total += counts["embedded"]
        broken = store.unreadable_task(id_)
        if broken is not None:
            found.append(
                f"project {id_}: {counts['unreadable']} of {counted(sum(counts.values()), 'crop')} cannot be read, and nobody is "
                f"asked for them, e.g. task {broken.id}: {broken.problem}"
            )
    return f"{counted(total, 'crop')} embedded", "; ".join(found) or None
