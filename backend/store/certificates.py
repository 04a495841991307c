"""Certificates: the spot check that leads to each, and how it ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sqlalchemy import select

from everylabel.backend.store.database import Database
from everylabel.backend.store.tables import CertificateRow

CHECKING, CERTIFIED, ACCEPTED = "checking", "certified", "accepted"
FAILED, CANCELLED, TAKEN_BACK = "failed", "cancelled", "taken back"
UNDER_WAY = (CHECKING, CERTIFIED)
"""The states of a certificate that `everylabel accept` goes on with; a project has one of them at a time."""


@dataclass(frozen=True)
class CertificateRecord:
    """A certificate of a project; the frozen labels are in a file, `frozen_labels`."""

    number: int
    state: str
    max_error: float
    """The highest share of wrong labels to accept, 0 to 1."""
    confidence: float
    """The probability that the bound holds."""
    model_round: int
    """The round whose machine labels are frozen."""
    classes: tuple[str, ...]
    """The classes of the labeling config when it began."""
    sizes: tuple[int, ...]
    """The number of crops in each stratum, the most confident first."""
    expected: tuple[float, ...]
    """The share of wrong labels that the confidences let expect in each."""
    began_at: float
    looks: tuple[int, ...] = ()
    """The tasks sampled for the spot check, in the order in which people are asked for them."""
    strata: tuple[int, ...] = ()
    """The stratum of each."""
    finished_at: float | None = None
    """When it was accepted, failed or was cancelled."""
    result: dict[str, Any] = field(default_factory=dict)
    """How it ended: `backend.rounds.certificates` says what it holds."""

    @property
    def is_under_way(self) -> bool:
        """True if `everylabel accept` goes on with it."""
        return self.state in UNDER_WAY


class Certificates(Database):
    """The part of the store that holds certificates."""

    def save_certificate(self, project_id: int, record: CertificateRecord) -> None:
        """Store a certificate, or what has changed of it."""
        with self._writing(project_id) as session:
            session.merge(
                CertificateRow(project_id=project_id, number=record.number, record=json.dumps(asdict(record)))
            )

    def certificates(self, project_id: int) -> list[CertificateRecord]:
        """Return every certificate of a project, oldest first."""
        query = (
            select(CertificateRow)
            .where(CertificateRow.project_id == project_id)
            .order_by(CertificateRow.number)
        )
        with self._session() as session:
            return [_record(row) for row in session.scalars(query)]

    def certificate_under_way(self, project_id: int) -> CertificateRecord | None:
        """Return the certificate whose spot check goes on, or that is certified and not accepted yet."""
        return next((record for record in self.certificates(project_id) if record.is_under_way), None)

    def looked_at(self, project_id: int) -> set[int]:
        """Return the tasks of the spot check under way: their first label is what the certificate counts."""
        certificate = self.certificate_under_way(project_id)
        return {*(() if certificate is None else certificate.looks)}


_FIELDS = frozenset(known.name for known in fields(CertificateRecord))


def _record(row: CertificateRow) -> CertificateRecord:
    # A later version may hold more: two versions of the backend share a store while one is replaced.
    held = {name: value for name, value in json.loads(row.record).items() if name in _FIELDS}
    for name in ("classes", "sizes", "expected", "looks", "strata"):
        held[name] = tuple(held.get(name, ()))
    return CertificateRecord(**held)
