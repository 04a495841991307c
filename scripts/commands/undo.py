"""`everylabel undo`: take back what `everylabel accept` accepted and nobody has edited since."""

from __future__ import annotations

from everylabel.backend.bootstrap import build
from everylabel.backend.label_studio.acceptance_mark import certified_version
from everylabel.backend.rounds import bulk_accept, certificates
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, counted, progress
from everylabel.scripts.project_errors import exit_on_errors


def run(project: int, certificate: int | None, *, dry_run: bool) -> None:
    """Delete the accepted annotations that nobody has edited, and say how many; with `dry_run`, only say it."""
    backend = build(load_settings())
    with exit_on_errors(backend, project), progress() as report:
        version = None if certificate is None else certified_version(certificate)
        undone = bulk_accept.undo(backend, project, version=version, dry_run=dry_run, progress=report)
        if not dry_run:
            backend.loop.catch_up(project, compare=True, progress=report)
            certificates.mark_taken_back(backend, project)
    stays = ""
    if undone.kept:
        stays = f" {undone.kept} that somebody has edited since {'stays' if undone.kept == 1 else 'stay'}."
    annotations = counted(undone.taken_back, "annotation")
    if dry_run:
        console.print(f"Dry run: {annotations} would be taken back.{stays}")
    else:
        crops = "its crop is" if undone.taken_back == 1 else "their crops are"
        console.print(f"Took back {annotations}; {crops} open again.{stays}")
