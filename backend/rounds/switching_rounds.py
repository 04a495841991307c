"""Run the next round of a project: with the encoder that it is being switched to, once all is ready for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from everylabel.backend.label_studio.client import LabelStudio
    from everylabel.backend.rounds.runner import FinishedRound, Rounds
    from everylabel.backend.store import Project, Store


class SwitchingRounds:
    """Runs rounds, and has a project change over to its next encoder with one of them.

    Args:
        store: Holds the projects.
        label_studio: Knows which model versions were used before.
        rounds: Runs rounds.
    """

    def __init__(self, store: Store, label_studio: LabelStudio, rounds: Rounds) -> None:
        self._store = store
        self._label_studio = label_studio
        self._rounds = rounds
        self._why_not: dict[int, str] = {}

    def is_ready(self, project: Project) -> bool:
        """Return whether the next round is to be the next encoder's first."""
        self._why_not.pop(project.id, None)
        if project.next_encoder is None or not self._rounds.switch.is_embedded(project.id):
            return False
        now = self._store.project(project.id)
        why_not = None if now is None else self._rounds.switch.obstacle(now)
        if why_not is not None:
            self._why_not[project.id] = why_not
        return now is not None and now.next_encoder is not None and why_not is None

    def run(
        self, project: Project, batch_size: int | None, *, publish: bool, switches: bool
    ) -> FinishedRound | None:
        """Run a round; where one with the next encoder fails, one with the encoder in use instead."""
        first = self._store.latest_round(project.id) is None
        versions = list(self._label_studio.model_versions(project.id)) if first and publish else []
        if switches:
            now = self._store.project(project.id) or project
            next_one = replace(project, next_encoder=now.next_encoder, next_signature=now.next_signature)
            try:
                return self._rounds.run(next_one, batch_size=batch_size, versions=versions, switches=True)
            except Exception as error:
                why_not = self._rounds.switch.failed(project, error)
                if why_not is None:
                    raise
                self._why_not[project.id] = why_not
        return self._rounds.run(project, batch_size=batch_size, versions=versions)

    def tell(self, project_id: int) -> None:
        """Store why the project has not changed over as its problem, after all that clears one."""
        why_not = self._why_not.get(project_id)
        if why_not is not None and self._store.project(project_id) is not None:
            self._store.save_project(project_id, problem=why_not)
