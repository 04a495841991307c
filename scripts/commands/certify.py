"""`everylabel accept --max-error`: begin a certificate, go on with it, and accept its crops once it is certified."""

from __future__ import annotations

from everylabel.backend.bootstrap import Backend, build
from everylabel.backend.progress import Progress
from everylabel.backend.rounds import bulk_accept, certificates
from everylabel.backend.rounds.bulk_accept import NothingLearnedError
from everylabel.backend.rounds.certificate_words import (
    cost_in_words,
    failure_in_words,
    next_step,
    progress_in_words,
    summary,
)
from everylabel.backend.rounds.spot_check import CertificateError
from everylabel.backend.store import CertificateRecord
from everylabel.backend.store.certificates import CERTIFIED, FAILED
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, counted, fail, progress
from everylabel.scripts.project_errors import exit_on_errors, where_unknown


def run(project: int, max_error: float, *, dry_run: bool) -> None:
    """Begin a certificate or go on with the one under way, say how far it is, and accept its crops if it is certified."""
    backend = build(load_settings())
    try:
        with exit_on_errors(backend, project), progress() as report:
            said = _go_on(backend, project, max_error, report, dry_run=dry_run)
    except NothingLearnedError as error:
        fail(f"{error}{where_unknown(backend, project)}")
    except CertificateError as error:
        fail(error)
    console.print(said, markup=False, highlight=False)


def cancel(project: int) -> None:
    """Drop the certificate under way; labels given in its spot check stay."""
    backend = build(load_settings())
    with backend.files(project).lock():
        record = certificates.cancel(backend, project)
    if record is None:
        fail(f"Project {project} has no certificate under way.{where_unknown(backend, project)}")
    with exit_on_errors(backend, project), progress() as report:
        backend.loop.catch_up(project, compare=True, force=_is_connected(backend, project), progress=report)
    console.print(
        f"Certificate {record.number} is cancelled. The labels given in its spot check stay, and train the model. Crops it has "
        f"accepted already are taken back with: everylabel undo --project {project} --certificate {record.number}"
    )


def _go_on(backend: Backend, project: int, max_error: float, report: Progress, *, dry_run: bool) -> str:
    if dry_run:
        backend.loop.sync(project, report)
    else:
        backend.loop.catch_up(project, compare=True, progress=report)
    record = backend.store.certificate_under_way(project)
    if record is None:
        return _begin(backend, project, max_error, report, dry_run=dry_run)
    if abs(record.max_error - max_error) > 1e-9:
        raise CertificateError(
            f"Certificate {record.number} is under way with --max-error {record.max_error:.3%}. Go on with that, or drop it: "
            f"everylabel accept --project {project} --cancel"
        )
    with backend.files(project).lock():  # no round in between
        check = certificates.read(backend, project, record)
        if not dry_run:
            record = certificates.conclude(backend, project, check)
    if record.state == CERTIFIED and not dry_run:
        return _accept(backend, project, record, report)
    if record.state == FAILED:
        backend.loop.catch_up(project, force=True, progress=report)
        return (
            f"Certificate {record.number} failed: {failure_in_words(record)}. Nothing is accepted. The labels of its spot check "
            "train the model: label more crops and begin anew, or accept more errors with a higher --max-error."
        )
    after = "Dry run: nothing was written." if dry_run else next_step(project)
    return f"Certificate {record.number}: {progress_in_words(check)}. {after}"


def _begin(backend: Backend, project: int, max_error: float, report: Progress, *, dry_run: bool) -> str:
    if not dry_run and not _is_connected(backend, project):
        raise CertificateError(
            f"Project {project} is not connected, so nobody can be asked. Run: everylabel connect --project {project}"
        )
    with backend.files(project).lock():
        record, cost = certificates.begin(backend, project, max_error, dry_run=dry_run)
    words = cost_in_words(cost, max_error)
    if dry_run:
        return f"{words} Dry run: nothing was written."
    backend.loop.catch_up(project, force=True, progress=report)
    return f"Certificate {record.number} has begun. {words} {next_step(project)}"


def _accept(backend: Backend, project: int, record: CertificateRecord, report: Progress) -> str:
    certificates.accept(backend, project, record, report)
    backend.loop.catch_up(project, compare=True, force=True, progress=report)
    record = certificates.finish(backend, project, record)
    return (
        f"Certificate {record.number}: {summary(record)}. Accepted {counted(record.result['accepted'], 'crop')} that nobody "
        f"looked at; see the tab {bulk_accept.ACCEPTED}. They count as the machine's labels: not for training, accuracy or the "
        f"audit. Print it with: everylabel certificate --project {project} --number {record.number}. Take them back with: "
        f"everylabel undo --project {project} --certificate {record.number}"
    )


def _is_connected(backend: Backend, project: int) -> bool:
    held = backend.store.project(project)
    return held is not None and held.connected
