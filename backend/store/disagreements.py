"""Disagreements between annotators, as the newest round resolved them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from everylabel.backend.store.database import Database
from everylabel.backend.store.tables import ResolvedDisagreementRow


@dataclass(frozen=True)
class ResolvedDisagreement:
    """The label that a round decided on for a task, and the votes it weighed."""

    label: str
    votes: Mapping[str, str]
    """The choice of each annotator. Once the task has other votes, the label is out of date."""


class Disagreements(Database):
    """The part of the store that holds how disagreements were resolved."""

    def resolved_disagreements(self, project_id: int) -> dict[int, ResolvedDisagreement]:
        """Return the labels that the newest round decided on, by task; empty before the first round."""
        row = ResolvedDisagreementRow
        query = select(row.task_id, row.label, row.votes).where(row.project_id == project_id)
        with self._session() as session:
            return {
                task_id: ResolvedDisagreement(label, json.loads(votes))
                for task_id, label, votes in session.execute(query)
            }

    def _replace_disagreements(
        self, session: Session, project_id: int, resolved: Mapping[int, ResolvedDisagreement]
    ) -> None:
        """Replace the labels that the round before decided on, within the round's transaction."""
        session.execute(
            delete(ResolvedDisagreementRow).where(ResolvedDisagreementRow.project_id == project_id)
        )
        rows = [
            {
                "project_id": project_id,
                "task_id": task_id,
                "label": found.label,
                "votes": json.dumps({**found.votes}),
            }
            for task_id, found in resolved.items()
        ]
        if rows:
            session.execute(insert(ResolvedDisagreementRow), rows)
