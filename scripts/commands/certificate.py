"""`everylabel certificate`: print a certificate that a customer can file."""

from __future__ import annotations

import json

import typer

from everylabel.backend.bootstrap import build
from everylabel.backend.rounds import certificate_words, certificates
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import fail
from everylabel.scripts.project_errors import where_unknown


def run(project: int, number: int | None, *, as_json: bool) -> None:
    """Print one certificate, or the newest, on standard output."""
    backend = build(load_settings())
    known = backend.store.certificates(project)
    if not known:
        fail(
            f"Project {project} has no certificate. To begin one: everylabel accept --project {project} --max-error 2%"
            f"{where_unknown(backend, project)}"
        )
    record = known[-1] if number is None else next((held for held in known if held.number == number), None)
    if record is None:
        fail(
            f"Project {project} has no certificate {number}. It has {', '.join(str(held.number) for held in known)}."
        )
    held = backend.store.project(project)
    title = f"{project}" if held is None or not held.title else f"{project}, {held.title}"
    accepted = certificates.still_accepted(backend, project, record)
    earlier = [before for before in known if before.number < record.number]
    if as_json:
        typer.echo(
            json.dumps(
                certificate_words.fields(record, title, accepted, earlier), indent=2, ensure_ascii=False
            )
        )
    else:
        typer.echo(certificate_words.document(record, title, accepted, earlier), nl=False)
