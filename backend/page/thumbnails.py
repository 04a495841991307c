"""Small pictures of crops, made once, kept on disk in bounded number."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from everylabel.backend.images.decoding_limits import decoding_memory
from everylabel.backend.label_studio.crop_errors import one_crop_only
from everylabel.backend.store.atomic_write import taking_its_place

if TYPE_CHECKING:
    from everylabel.backend.images.reader import ImageReader
    from everylabel.backend.store import Task
    from everylabel.backend.store.files import ProjectFiles

SIDE = 128
LARGE_SIDE = 512
"""Of the pictures that people label by."""
ENOUGH = 2
"""Times the thumbnail's side that the longer side of a picture needs for one as sharp as from all its pixels."""
LARGE_KEPT = 3_000
KEPT = 20_000
"""Thumbnails of one project on disk; the oldest make room."""
PRUNE_EVERY = 200
MAKERS = 3


class BusyError(Exception):
    """As many thumbnails as may be are being made; ask again in a moment."""


class Thumbnails:
    """Thumbnails of a backend's crops as WebP files. Safe to share between threads.

    Args:
        files: Returns a project's files.
        reader: Fetches the crops, with all its limits and guards.
        kept: how many thumbnails a project keeps on disk.
        side: their longest width and height in pixels; each size has a folder of its own.
    """

    def __init__(
        self,
        files: Callable[[int], ProjectFiles],
        reader: ImageReader,
        kept: int = KEPT,
        side: int = SIDE,
    ) -> None:
        self._files = files
        self._reader = reader
        self._kept = kept
        self._side = side
        # The other threads of the web server answer webhooks, which have one second: nobody waits in one for a turn.
        self._makers = threading.BoundedSemaphore(MAKERS)
        self._made = 0

    def get(self, project_id: int, task: Task) -> bytes:
        """Return the thumbnail of a task's crop, a WebP file at most `side` pixels wide and high.

        Raises:
            ImageError: the crop cannot be read.
            BusyError: too many are being made at the moment.
        """
        path = self._path(project_id, task)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            pass
        if not self._makers.acquire(blocking=False):
            raise BusyError
        try:
            with one_crop_only("The crop"), decoding_memory.scope():
                picture = self._reader.read(task.image_url or "", task.id, enough=ENOUGH * self._side)
                content = thumbnail(picture, self._side)
        finally:
            self._makers.release()
        self._keep(path, content)
        return content

    def _path(self, project_id: int, task: Task) -> Path:
        # Named after the address too: a task that is given another image shows that one.
        digest = hashlib.sha256((task.image_url or "").encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return self._files(project_id).folder / self._folder / f"{task.id}-{digest}.webp"

    @property
    def _folder(self) -> str:
        return "thumbnails" if self._side == SIDE else f"thumbnails-{self._side}"

    def _keep(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with taking_its_place(path) as unfinished:
            unfinished.write_bytes(content)
        self._made += 1
        if self._made % PRUNE_EVERY == 0:
            self.prune(path.parent)

    def prune(self, folder: Path) -> None:
        """Delete the oldest thumbnails of a folder beyond the number that is kept."""
        with os.scandir(folder) as found:
            ages = sorted((entry.stat().st_mtime, entry.path) for entry in found)
        for _, path in ages[: max(0, len(ages) - self._kept)]:
            Path(path).unlink(missing_ok=True)


def thumbnail(picture: Image.Image, side: int = SIDE) -> bytes:
    """Return an image as a small WebP file, its proportions kept; a small one grows by whole pixels."""
    width, height = picture.size
    times = max(1, side // max(width, height))
    if times > 1:
        # Bicubic blur hides what an 8 x 8 crop shows.
        small = picture.resize((width * times, height * times), Image.Resampling.NEAREST)
    else:
        scale = side / max(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        # Never a copy of a huge one first, nor a filter as wide as a picture of one pixel's height.
        small = picture.reduce((max(1, width // (4 * size[0])), max(1, height // (4 * size[1]))))
        small = small.resize(size, Image.Resampling.LANCZOS)
    stored = io.BytesIO()
    small.save(stored, "WEBP", quality=80, method=2)
    return stored.getvalue()
