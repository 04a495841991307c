"""Read one crop: fetch its picture, decode it, cut the crop out and prepare it for an encoder."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Protocol

from numpy.typing import NDArray
from PIL import Image

from everylabel.backend.embedding.cache import Cache
from everylabel.backend.embedding.prepared import Prepared, with_digest
from everylabel.backend.images import cut as cutting
from everylabel.backend.images.decoding_limits import decoding_memory
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.crop_errors import ImageError, one_crop_only
from everylabel.backend.label_studio.label_config import text_of
from everylabel.backend.store import Task

PICTURE_BYTES = 128_000_000
"""The memory for decoded pictures that several crops are parts of."""
CROPS_KEPT = 64
"""How many prepared crops are cached, for nearby tasks with the same address."""
LONG_ADDRESS = 4096


class Preparation(Protocol):
    """The work of an encoder on a crop before it encodes it."""

    @property
    def reads(self) -> str:
        """Return the kind of its crops: `image` or `text`."""

    @property
    def enough_pixels(self) -> int | None:
        """Return how many pixels of a picture's longer side count; None where every one does."""

    def prepare(self, image: Image.Image) -> NDArray[Any]:
        """Turn an image into a crop."""

    def prepare_text(self, text: str) -> NDArray[Any]:
        """Turn a text into a crop."""


class SingleCrops:
    """A reader of single crops. Safe to share between threads.

    Args:
        reader: Fetches and decodes pictures.
        preparation: Prepares crops.
    """

    def __init__(self, reader: ImageReader, preparation: Preparation) -> None:
        self._reader = reader
        self._preparation = preparation
        self._pictures: Cache[Image.Image | ImageError] = Cache(PICTURE_BYTES, _picture_bytes)
        self._crops: Cache[Prepared | ImageError] = Cache(CROPS_KEPT, lambda _: 1)

    def read(self, task: Task) -> Prepared | ImageError:
        """Return the crop of a task, or the reason why it cannot be read."""
        try:
            # A huge picture takes up memory until its crop is prepared.
            with one_crop_only("The crop"), decoding_memory.scope():
                return self._prepared(task)
        except ImageError as error:
            return error.without_traceback()

    def _prepared(self, task: Task) -> Prepared | ImageError:
        address = task.image_url or ""
        if self._preparation.reads == "text":
            return with_digest(self._preparation.prepare_text(text_of(address) or ""))
        return self._crops.get(_key(address), lambda: self._cut(address, task.id))

    def _cut(self, address: str, task_id: int) -> Prepared | ImageError:
        picture_address, box = crop_shapes.split(address)
        if box is None:
            picture = self._picture(address, task_id, self._preparation.enough_pixels)
        else:
            picture = self._pictures.get(
                _key(picture_address), lambda: self._picture(picture_address, task_id)
            )
        if isinstance(picture, ImageError):
            return picture
        try:
            return with_digest(self._preparation.prepare(cutting.cut(picture, box)))
        except ImageError as error:
            return error.without_traceback()

    def _picture(self, address: str, task_id: int, enough: int | None = None) -> Image.Image | ImageError:
        try:
            # A box is cut out of the full picture: rounded to fewer pixels, it would be elsewhere.
            return self._reader.read(address, task_id, **({} if enough is None else {"enough": enough}))
        except ImageError as error:
            return error.without_traceback()


def _key(address: str) -> str:
    """Return what a cache knows an address by: a picture that stands in the address itself is not kept twice."""
    if len(address) <= LONG_ADDRESS:
        return address
    return blake2b(address.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _picture_bytes(found: Image.Image | ImageError) -> int:
    return 10_000 if isinstance(found, ImageError) else 4 * found.width * found.height
