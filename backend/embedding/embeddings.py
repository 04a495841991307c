"""The encoder, loaded once, and the files that hold the embeddings of each project."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.model import encoders

if TYPE_CHECKING:
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.settings import Settings
    from everylabel.backend.store.files import EmbeddingFile, ProjectFiles
    from everylabel.model.encoders import Encoder


class Embeddings:
    """The encoder, and the embeddings that it has made of each project's crops.

    Args:
        settings: Names the encoder and the device it runs on.
        files: Returns a project's files.
        encoder: Used instead of the one that the settings name.
        threads: The number of CPU threads of the encoder; one for each core if None.
    """

    def __init__(
        self,
        settings: Settings,
        files: Callable[[int], ProjectFiles],
        encoder: Encoder | None = None,
        threads: int | None = None,
    ) -> None:
        self._settings = settings
        self._files = files
        self._encoder = encoder
        self._threads = threads
        self._lock = threading.Lock()

    def encoder(self) -> Encoder:
        """Return the encoder, which is loaded at the first call."""
        with self._lock:
            if self._encoder is None:
                self._encoder = encoders.create(
                    self._settings.encoder, device=self._settings.device, threads=self._threads
                )
            return self._encoder

    def file(self, project_id: int) -> EmbeddingFile:
        """Return the file that holds a project's embeddings."""
        encoder = self.encoder()
        return self._files(project_id).embeddings(encoder.signature, encoder.dim, encoder.dtype)

    def read(self, project_id: int) -> NDArray[Any]:
        """Return a project's embeddings: (n, dim), memory-mapped."""
        return self.file(project_id).read()


def check_encoder(control: ImageChoices, encoder: str) -> None:
    """Check that an encoder reads what a project shows: images or texts.

    Args:
        control: The choices of the labeling config.
        encoder: The name of the encoder.

    Raises:
        LabelConfigError: The encoder reads texts and the project shows images, or the reverse; the message says the
            way out.
    """
    reads = encoders.reads(encoder)
    if control.kind == reads:
        return
    if control.kind == "text":
        raise LabelConfigError(
            f"<Choices name={control.from_name!r}> is for a <Text>, and this backend's encoder {encoder!r} reads images. "
            f"Start a backend for texts: pip install 'everylabel[text]', EVERYLABEL_ENCODER={encoders.DEFAULT_TEXT}, "
            "and a MODEL_DIR of its own."
        )
    raise LabelConfigError(
        f"<Choices name={control.from_name!r}> is for an <Image>, and this backend's encoder {encoder!r} reads texts. "
        f"Start a backend for images: EVERYLABEL_ENCODER={encoders.DEFAULT}, and a MODEL_DIR of its own."
    )
