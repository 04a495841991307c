"""Switch a project to another encoder, between two rounds: the old one answers until the new one's first round is there.

The trainer embeds every crop with the next encoder in the background (`backend/embedding/lanes.py`). Once nothing is
missing, the next round is run on the new rows, and the project has the new encoder from the moment that round is stored.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from everylabel.backend.embedding.embeddings import EncoderError, check_encoder
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.rounds.models import make_classifier
from everylabel.backend.sync.mirror import SYNC

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.store import Project, Store


log = logging.getLogger(__name__)

FAILED_SHARE = 0.01
"""A storage that lets nobody in must not leave a project without its crops."""


class SwitchError(ValueError):
    """A project cannot be switched to an encoder; the message says why and the way out."""


@dataclass(frozen=True)
class SwitchProgress:
    """How far a switch is."""

    encoder: str
    """The name of the encoder."""
    embedded: int
    """Crops that are embedded, or were tried in vain."""
    crops: int


class EncoderSwitch:
    """Begins, follows and calls off switches to another encoder.

    Args:
        store: Holds the projects and the rows of their encoders.
        embeddings: The encoders.
    """

    def __init__(self, store: Store, embeddings: Embeddings) -> None:
        self._store = store
        self._embeddings = embeddings

    def begin(self, project: Project, name: str) -> None:
        """Have a project's crops embedded with another encoder; the trainer does so, and changes over by itself.

        Raises:
            SwitchError: It has that encoder, or is pinned to a round's model.
            EncoderError: There is no such encoder, or it cannot be loaded.
            LabelConfigError: The encoder cannot read what the project shows, or learn what it asks for.
        """
        if name == self._embeddings.name(project):
            raise SwitchError(f"Project {project.id} has the encoder {name} already.")
        if project.model_pinned:
            raise SwitchError(
                f"Project {project.id} is pinned to the model of round {project.model_round}, which cannot read another encoder's "
                f"embeddings. Let newer models be used first: everylabel rollback --project {project.id} --newest"
            )
        control = label_config.parse(project.label_config)
        check_encoder(control, name)
        encoder = self._embeddings.named(name)
        make_classifier(control, encoder)
        if encoder.signature == self._signature_in_use(project):
            raise SwitchError(
                f"{name} is the encoder that project {project.id} has already, by another name."
            )
        self._store.save_project(project.id, next_encoder=name, next_signature=encoder.signature)
        self._store.add_event(project.id, SYNC, {})

    def _signature_in_use(self, project: Project) -> str:
        try:
            return self._embeddings.named(self._embeddings.name(project)).signature
        except EncoderError:  # which a switch is the way out of
            return ""

    def call_off(self, project_id: int) -> None:
        """Have a project stay with its encoder. What the next one has made is kept for another try."""
        self._store.save_project(project_id, next_encoder=None, next_signature=None)

    def progress(self, project: Project) -> SwitchProgress | None:
        """Return how far a switch is; None if there is none. The encoder is not loaded for it."""
        if project.next_encoder is None or project.next_signature is None:
            return None
        counts = self._store.count_tasks(project.id)
        crops = counts["embedded"] + counts["missing"]
        left = len(self._store.rows_with(project.next_signature).tasks_to_embed(project.id))
        return SwitchProgress(project.next_encoder, max(0, crops - left), crops)

    def is_embedded(self, project_id: int) -> bool:
        """Return whether a project is being switched, and every crop was tried with the next encoder."""
        project = self._store.project(project_id)
        if project is None or project.next_signature is None or project.model_pinned:
            return False
        if not self._store.rows_with(project.next_signature).is_complete(project_id):
            return False
        return self._store.count_tasks(project_id)["embedded"] > 0

    def try_again(self, project: Project) -> None:
        """Have the crops that keep a project from changing over embedded once more."""
        if project.next_signature is not None:
            rows = self._store.rows_with(project.next_signature)
            if self._are_too_many(rows.count_failed(project.id), project.id):
                rows.forget_problems(project.id)

    def _are_too_many(self, failed: int, project_id: int) -> bool:
        embedded = self._store.count_tasks(project_id)["embedded"]
        return failed > max(1, FAILED_SHARE * embedded) or failed >= embedded > 0

    def obstacle(self, project: Project) -> str | None:
        """Return what keeps a project whose crops are embedded from changing over, with the way out; None if nothing does.

        A crop may fail with the next encoder, or 1 % of them.
        """
        name, signature = project.next_encoder, project.next_signature
        if name is None or signature is None:
            return None
        rows = self._store.rows_with(signature)
        stays = self._embeddings.name(project)
        way_out = f"To stay with {stays}: everylabel encoders --project {project.id} --switch {stays}"
        failed = rows.count_failed(project.id)
        if self._are_too_many(failed, project.id):
            return (
                f"{failed} crops can no longer be read, so project {project.id} is not switched to {name} yet. They are tried "
                f"again; or delete their tasks. {way_out}"
            )
        try:
            encoder, control = self._embeddings.named(name), label_config.parse(project.label_config)
            check_encoder(control, name)
            make_classifier(control, encoder)
        except (EncoderError, LabelConfigError) as error:
            return f"{error} {way_out}"
        if rows.end(project.id) > len(self._embeddings.file_of(project.id, encoder)):
            return f"The file of {name}'s embeddings has lost rows: they are made anew."
        return None

    def failed(self, project: Project, error: Exception) -> str | None:
        """Return what is told of a round with the next encoder that failed; None if the project has changed over."""
        now = self._store.project(project.id)
        if now is None or now.next_encoder is None:
            return None
        log.error("project %s: the round with the next encoder failed", project.id, exc_info=error)
        stays = self._embeddings.name(project)
        return (
            f"The round with {now.next_encoder} failed ({type(error).__name__}), and is tried again. "
            f"To stay with {stays}: everylabel encoders --project {project.id} --switch {stays}"
        )
