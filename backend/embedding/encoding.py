"""Encode crops batch by batch, and one by one if a batch fails, so that one crop never stops the others."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everylabel.backend.images.errors import NotAnImageError
from everylabel.backend.label_studio.crop_errors import ImageError, one_crop_only
from everylabel.backend.store import Task

if TYPE_CHECKING:
    from everylabel.model.encoders import Encoder

log = logging.getLogger(__name__)


@dataclass
class Batch:
    """Crops to encode, and the tasks and problems to write, including those that need no encoding."""

    crops: list[NDArray[Any]] = field(default_factory=list)
    places: dict[bytes, int] = field(default_factory=dict)
    """The position in `crops` of the pixels of each digest."""
    tasks: list[tuple[Task, bytes]] = field(default_factory=list)
    problems: dict[int, ImageError] = field(default_factory=dict)
    """Crops that could not be read, by task."""
    failed: dict[bytes, ImageError] = field(default_factory=dict)
    """Pixels that the encoder fails on, by digest."""

    def __len__(self) -> int:
        return len(self.tasks) + len(self.problems)


class Encoding:
    """An iterable of batches and their (n, dim) rows, in order; a batch without new crops has None.

    Args:
        batches: The batches; consumed once.
        encoder: Turns their crops into rows.

    Raises:
        Exception: What the batches raise, or what the encoder raises if it fails on a plain crop too.
    """

    def __init__(self, batches: Iterable[Batch], encoder: Encoder) -> None:
        self._batches = iter(batches)
        self._encoder = encoder
        self._waiting: deque[tuple[Batch, NDArray[Any] | None]] = deque()
        self._batches_failed = False

    def __iter__(self) -> Iterator[tuple[Batch, NDArray[Any] | None]]:
        while True:
            try:
                for batch, rows in self._together():
                    if rows is not None:
                        bad = not_finite(rows)
                        batch.failed |= {key: bad[at] for key, at in batch.places.items() if at in bad}
                    yield batch, rows
                return
            except Exception as error:
                if self._batches_failed or all(crops is None for _, crops in self._waiting):
                    raise
                log.warning(
                    "a batch could not be encoded (%s): its crops are tried one by one", type(error).__name__
                )
            yield from self._one_by_one()

    def _together(self) -> Iterator[tuple[Batch, NDArray[Any] | None]]:
        waiting = self._waiting
        for rows in self._encoder.encode_all(self._stacked()):
            while waiting[0][1] is None:
                yield waiting.popleft()
            yield waiting.popleft()[0], rows
        while waiting:
            yield waiting.popleft()

    def _stacked(self) -> Iterator[NDArray[Any]]:
        """Yield the crops of each batch that has new ones."""
        while True:
            try:
                batch = next(self._batches, None)
            except BaseException:
                self._batches_failed = True
                raise
            if batch is None:
                return
            stacked = np.stack(batch.crops) if batch.crops else None
            batch.crops.clear()
            self._waiting.append((batch, stacked))
            if stacked is not None:
                yield stacked

    def _one_by_one(self) -> Iterator[tuple[Batch, NDArray[Any] | None]]:
        while self._waiting:
            batch, stacked = self._waiting.popleft()
            if stacked is None:
                yield batch, None
                continue
            rows, failed = encode_each(self._encoder, stacked)
            batch.failed = {digest: failed[at] for digest, at in batch.places.items() if at in failed}
            yield batch, rows


def encode_each(encoder: Encoder, crops: NDArray[Any]) -> tuple[NDArray[Any], dict[int, ImageError]]:
    """Encode crops together, or one by one if that fails.

    Args:
        encoder: The encoder.
        crops: (n, ...) crops as the encoder prepares them.

    Returns:
        (n, dim) rows, and the reasons why some of them are unusable, by row.

    Raises:
        Exception: The encoder fails on a plain crop too, so the crops are not to blame.
    """
    try:
        together = encoder.encode(crops)
        return together, not_finite(together)
    except Exception as error:
        rows = np.zeros((len(crops), encoder.dim), dtype=encoder.dtype)
        failed: dict[int, ImageError] = {}
        for i in range(len(crops)):
            row = _row(encoder, crops[i : i + 1])
            if isinstance(row, ImageError):
                failed[i] = row
            else:
                rows[i] = row
        if len(failed) == len(crops) and not _encodes_a_plain_crop(encoder):
            raise error
        return rows, failed


def not_finite(rows: NDArray[Any]) -> dict[int, ImageError]:
    """Return the reason for each row with a number that is not finite; one such row would spoil every score of a pool.

    Args:
        rows: (n, dim) embeddings.

    Returns:
        The problem, by row.
    """
    bad = np.flatnonzero(~np.isfinite(rows).reshape(len(rows), -1).all(axis=1))
    return {
        int(at): NotAnImageError(
            "The crop has no embedding: the encoder's numbers for it are not finite",
            "Delete the task, or use another encoder (everylabel encoders --switch)",
        )
        for at in bad
    }


def _row(encoder: Encoder, crop: NDArray[Any]) -> NDArray[Any] | ImageError:
    try:
        with one_crop_only("The crop"):
            rows: NDArray[Any] = encoder.encode(crop)
            row: NDArray[Any] = rows[0]
            return not_finite(rows).get(0, row)
    except ImageError as reason:
        return reason.without_traceback()


def plain_crop(encoder: Encoder) -> NDArray[Any]:
    """Return one crop that any encoder of its kind can encode, as a batch: (1, ...)."""
    plain = (
        encoder.prepare_text("a") if encoder.reads == "text" else encoder.prepare(Image.new("RGB", (8, 8)))
    )
    return plain[np.newaxis]


def _encodes_a_plain_crop(encoder: Encoder) -> bool:
    plain = plain_crop(encoder)
    try:
        encoder.encode(plain)
    except Exception:
        log.exception("the encoder fails on a plain crop")
        return False
    return True
