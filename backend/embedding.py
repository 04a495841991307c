"""Turns a project's crops into embeddings: fetched, decoded and encoded once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend import crop_box
from backend.image_file import ImageError
from backend.images import ImageReader
from backend.label_config import text_of
from backend.project_files import EmbeddingFile
from backend.store import Store, Task
from model.encoders import Encoder

log = logging.getLogger(__name__)

CHUNK = 64
"""Crops that are in memory at a time, and lost at most in a crash."""


@dataclass(frozen=True)
class Embedded:
    """How a pass over a project's crops went."""

    embedded: int
    unreadable: int
    failure: ImageError | None = None
    """Why the pass ended early: not one crop of a chunk could be had, so Label Studio or the network is away."""


class CropEmbedder:
    """Reads crops with several threads and appends their embeddings to the project's file."""

    def __init__(self, store: Store, reader: ImageReader, encoder: Encoder, threads: int) -> None:
        self._store = store
        self._reader = reader
        self._encoder = encoder
        self._threads = threads

    def embed(
        self,
        project_id: int,
        tasks: Sequence[Task],
        file: EmbeddingFile,
        progress: Callable[[int, int], None] | None = None,
    ) -> Embedded:
        """Embed the crops of `tasks`; one that cannot be read is recorded with its reason and left out.

        Args:
            project_id: the project, for the store.
            tasks: tasks without an embedding.
            file: where the rows go.
            progress: called with (crops done, crops in all) after every chunk.

        A host that is away costs its own crops only, until they are tried again; where it is the host of all,
        the pass ends.
        """
        embedded = unreadable = 0
        with ThreadPoolExecutor(self._threads, thread_name_prefix="images") as pool:
            for chunk in _chunks(tasks):
                crops: list[NDArray[Any]] = []
                readable: list[int] = []
                problems: dict[int, ImageError] = {}
                for task, outcome in chain.from_iterable(pool.map(self._read, _by_picture(chunk))):
                    if isinstance(outcome, ImageError):
                        problems[task.id] = outcome
                    else:
                        crops.append(outcome)
                        readable.append(task.id)
                if crops:
                    first = file.append(self._encoder.encode(np.stack(crops)))
                    self._store.save_embedded(project_id, {id_: first + i for i, id_ in enumerate(readable)})
                self._store.save_problems(project_id, {id_: str(why) for id_, why in problems.items()})
                for task_id, why in problems.items():
                    log.warning("project %s, task %s: %s", project_id, task_id, why)
                embedded, unreadable = embedded + len(readable), unreadable + len(problems)
                if progress is not None:
                    progress(embedded + unreadable, len(tasks))
                if all(why.retry for why in problems.values()) and not readable:
                    return Embedded(embedded, unreadable, next(iter(problems.values())))
        return Embedded(embedded, unreadable)

    def _read(self, tasks: Sequence[Task]) -> list[tuple[Task, NDArray[Any] | ImageError]]:
        """Prepare the crops of tasks that lie on one picture, which is fetched and decoded once."""
        if self._encoder.reads == "text":
            return [(task, self._encoder.prepare_text(text_of(task.image_url or "") or "")) for task in tasks]
        try:
            picture = self._reader.read(_picture(tasks[0]), tasks[0].id)
        except ImageError as error:
            return [(task, error) for task in tasks]
        return [(task, self._prepared(task, picture)) for task in tasks]

    def _prepared(self, task: Task, picture: Image.Image) -> NDArray[Any] | ImageError:
        try:
            return self._encoder.prepare(crop_box.cut(picture, crop_box.split(task.image_url or "")[1]))
        except ImageError as error:
            return error


def _picture(task: Task) -> str:
    return crop_box.split(task.image_url or "")[0]


def _by_picture(tasks: Sequence[Task]) -> list[list[Task]]:
    pictures: dict[str, list[Task]] = {}
    for task in tasks:
        pictures.setdefault(_picture(task), []).append(task)
    return list(pictures.values())


def _chunks(tasks: Sequence[Task]) -> Iterator[Sequence[Task]]:
    for start in range(0, len(tasks), CHUNK):
        yield tasks[start : start + CHUNK]
