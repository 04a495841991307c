"""The parts of a backend that functions take together: each says with a protocol which ones it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.label_studio.client import LabelStudio
    from everylabel.backend.rounds.live_loop import LiveLoop
    from everylabel.backend.rounds.models import Models
    from everylabel.backend.store import Store


class PredictingParts(Protocol):
    """The parts that predict the crops of a project with its model in use."""

    @property
    def store(self) -> Store:
        """Projects, crops, annotations and rounds."""

    @property
    def label_studio(self) -> LabelStudio:
        """The client."""

    @property
    def embeddings(self) -> Embeddings:
        """The embeddings of each project."""

    @property
    def models(self) -> Models:
        """The classifier in use of each project."""


class RoundParts(PredictingParts, Protocol):
    """The parts that predict, and that run the rounds of a project."""

    @property
    def loop(self) -> LiveLoop:
        """The loop that syncs, runs rounds and publishes them."""
