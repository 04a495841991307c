"""The encoder of each project, loaded once, and the files that hold its embeddings."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.model import encoders

if TYPE_CHECKING:
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.settings import Settings
    from everylabel.backend.store import Project, Store
    from everylabel.backend.store.embeddings import RowStore
    from everylabel.backend.store.files import EmbeddingFile, ProjectFiles
    from everylabel.model.encoders import Encoder

log = logging.getLogger(__name__)

AGAIN_SECONDS = 30.0
"""How long an encoder that could not be loaded is not tried again: that may be a download."""


class EncoderError(ValueError):
    """Raised if a project's encoder cannot be loaded; the message says the way out."""


@dataclass(frozen=True)
class Target:
    """Where the crops of a project are embedded to."""

    name: str
    """The name by which `encoders.create` makes the encoder."""
    encoder: Encoder
    file: EmbeddingFile
    """The file that rows are appended to."""
    rows: RowStore
    """The part of the store that is told of them."""


class Embeddings:
    """The encoders, and the embeddings that they have made of each project's crops.

    Args:
        settings: Names the encoder of projects that have none of their own, and the device encoders run on.
        store: Knows which encoder a project was switched to.
        files: Returns a project's files.
        encoder: Used instead of the one that the settings name.
        threads: The number of CPU threads of an encoder; one for each core if None.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        files: Callable[[int], ProjectFiles],
        encoder: Encoder | None = None,
        threads: int | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._files = files
        self._threads = threads
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._asked: set[str] = set()
        """The encoders that are being loaded in the background."""
        self._failed: dict[str, tuple[float, str]] = {}
        self._loaded: dict[str, Encoder] = {} if encoder is None else {settings.encoder: encoder}

    def name(self, project: Project | None) -> str:
        """Return the name of a project's encoder; that of the settings for a project that is not known yet."""
        return (project.encoder_name if project else None) or self._settings.encoder

    def encoder(self, project_id: int) -> Encoder:
        """Return a project's encoder, which is loaded at the first call.

        Raises:
            EncoderError: There is no such encoder, or it cannot be loaded.
        """
        return self.named(self.name(self._store.project(project_id)))

    def has_text_tower(self, project_id: int) -> bool:
        """Return whether a project's encoder can read words; nobody waits for it to be loaded.

        Returns:
            False also where that is not known yet: an encoder that is not ours is loaded in the background to be asked.
        """
        name = self.name(self._store.project(project_id))
        if name in encoders.names():
            return False
        if name in self._loaded:
            return self.named(name).has_text_tower
        with self._lock:
            if name not in self._asked:
                self._asked.add(name)
                threading.Thread(target=self._load, args=(name,), name=f"encoder {name}", daemon=True).start()
        return False

    def _load(self, name: str) -> None:
        try:
            self.named(name)
        except EncoderError as error:
            log.warning("the search by words is left out: %s", error)
        finally:
            with self._lock:
                self._asked.discard(name)  # the next who asks has it tried again

    def named(self, name: str) -> Encoder:
        """Return the encoder of this name, as `encoder` does; one that is being loaded keeps nobody from another."""
        with self._lock:
            loading = self._loading.setdefault(name, threading.Lock())
        with loading:
            if (found := self._loaded.get(name)) is not None:
                return found
            failed = self._failed.get(name)
            if failed is not None and time.monotonic() < failed[0] + AGAIN_SECONDS:
                raise EncoderError(failed[1])
            try:
                found = encoders.create(name, device=self._settings.device, threads=self._threads)
            except Exception as error:
                ours = isinstance(error, ValueError)
                why = (
                    str(error) if ours else f"The encoder {name!r} cannot be loaded ({type(error).__name__})."
                )
                self._failed[name] = (time.monotonic(), why)
                raise EncoderError(why) from error
            self._loaded[name] = found
            return found

    def file(self, project_id: int) -> EmbeddingFile:
        """Return the file that holds a project's embeddings."""
        return self.file_of(project_id, self.encoder(project_id))

    def file_of(self, project_id: int, encoder: Encoder) -> EmbeddingFile:
        """Return the file that holds what an encoder has made of a project's crops."""
        return self._files(project_id).embeddings(encoder.signature, encoder.dim, encoder.dtype)

    def target(self, project: Project) -> Target:
        """Return where crops are embedded to with the encoder in use."""
        name = self.name(project)
        encoder = self.named(name)
        return Target(name, encoder, self.file_of(project.id, encoder), self._store)

    def next_target(self, project: Project) -> Target | None:
        """Return where crops are embedded to with the encoder that a project is being switched to, if any.

        Raises:
            EncoderError: It cannot be loaded.
        """
        name = project.next_encoder
        if name is None:
            return None
        try:
            encoder = self.named(name)
        except EncoderError as error:
            in_use = self.name(project)
            raise EncoderError(
                f"{error} To stay with {in_use}: everylabel encoders --project {project.id} --switch {in_use}"
            ) from error
        rows = self._store.rows_with(encoder.signature)
        return Target(name, encoder, self.file_of(project.id, encoder), rows)

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
        EncoderError: There is no such encoder.
    """
    try:
        reads = encoders.reads(encoder)
    except ValueError as error:
        raise EncoderError(str(error)) from error
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
