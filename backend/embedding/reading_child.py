"""Read crops in processes of their own, started by `reading_process.py`.

One process imports what is needed, and forks one for each connection, so that the libraries are in memory once.
"""

from __future__ import annotations

import mmap
import os
import resource
import socket
import sys
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from everylabel.backend.bounded_process import end_with_parent
from everylabel.backend.embedding.hosts import host_of
from everylabel.backend.embedding.prepared import Prepared
from everylabel.backend.embedding.reading_connection import TOLD_ERRORS
from everylabel.backend.embedding.single_crops import SingleCrops
from everylabel.backend.images.decoding_child import receive, send
from everylabel.backend.images.decoding_limits import decoding_memory
from everylabel.backend.images.errors import ImageUnreachableError
from everylabel.backend.images.reader import ImageReader, make_described
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.store import Task
from everylabel.model.encoders.base import ENOUGH
from everylabel.model.encoders.pixels import letterbox
from everylabel.model.encoders.rgb import to_rgb

SECONDS = 20.0
"""After so many, the crops of a request that were not begun are left to the other side: their hosts are slow."""
PASSES = 2
"""How many passes may be under way at a time without losing what they keep for nearby crops."""


@dataclass(frozen=True)
class PlainPreparation:
    """The preparation that encoders of images have in common: their letterbox.

    Args:
        crop_size: pixels of a crop's sides.
    """

    crop_size: int
    reads: Literal["image", "text"] = "image"

    @property
    def enough_pixels(self) -> int:
        """Return how many pixels of a picture's longer side count."""
        return ENOUGH * self.crop_size

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Turn an image into a crop."""
        return letterbox(to_rgb(image), self.crop_size)

    def prepare_text(self, text: str) -> NDArray[Any]:
        """Refuse a text."""
        raise NotImplementedError(text)


class Child:
    """The reader of one process.

    Args:
        pixels: memory that is shared with the process that asks: a crop after the other.
        threads: how many crops are fetched at a time.
    """

    def __init__(self, pixels: mmap.mmap, threads: int) -> None:
        self._pixels = pixels
        self._authorization = ""
        self._threads = ThreadPoolExecutor(threads)
        self._crops: OrderedDict[str, tuple[ImageReader, SingleCrops]] = OrderedDict()

    def answer(self, request: dict[str, Any]) -> list[Any]:
        """Read crops.

        Args:
            request: the `tasks` with their addresses, the name of the `pass` they are of, the description of the `reader`, the
                `authorization` of requests to Label Studio, and the `side` of a crop in pixels.

        Returns:
            For each crop its digest, while its pixels follow those of the one before in the shared memory; or the name of an error,
            its reason and the way out; or None where the other side is to read it.
        """
        self._authorization = request["authorization"]
        crops = self._crops_of(request)
        away: set[str] = set()
        until = time.monotonic() + SECONDS

        def read(task: Task) -> Prepared | ImageError | None:
            host = host_of(task.image_url or "")
            found = None if host in away or time.monotonic() > until else crops.read(task)
            if isinstance(found, ImageUnreachableError):
                away.add(host)
            return found

        answers: list[Any] = []
        size, done = 3 * request["side"] ** 2, 0
        for found in self._threads.map(read, [Task(*task) for task in request["tasks"]]):
            if isinstance(found, Prepared):
                self._pixels[done : done + size] = np.ascontiguousarray(found.pixels).tobytes()
                done += size
                answers.append(found.digest.hex())
            elif found is not None and type(found).__name__ in TOLD_ERRORS:
                answers.append([type(found).__name__, found.reason, found.way_out])
            else:
                answers.append(None)
        return answers

    def _crops_of(self, request: dict[str, Any]) -> SingleCrops:
        """Return what reads the crops of a pass: in another, pictures and hosts may have changed."""
        if request["pass"] not in self._crops:
            reader = make_described(request["reader"], lambda: self._authorization)
            crops = SingleCrops(reader, PlainPreparation(request["side"]))
            self._crops[request["pass"]] = reader, crops
            if len(self._crops) > PASSES:
                self._crops.popitem(last=False)[1][0].close()
        self._crops.move_to_end(request["pass"])
        return self._crops[request["pass"]][1]


def serve(connection: socket.socket, child: Child) -> None:
    """Read crops as they are asked for, until the other side ends."""
    with connection, connection.makefile("rb") as requests, connection.makefile("wb") as answers:
        send(answers, {"ready": os.getpid()})
        while (message := receive(requests)) is not None:
            send(answers, {"crops": child.answer(message[0])})


def main(parent: int, threads: int, memory: int, connections: list[tuple[int, int]]) -> None:
    """Fork a process for each connection and its memory, and wait until all have ended.

    Args:
        parent: the process that asks.
        threads: how many crops each process fetches at a time.
        memory: the bytes that decoding takes in each process; one picture that takes more is not read.
        connections: file descriptors, of a socket and of shared memory.
    """
    # So that it can be killed with all that it forks; its priority stays that of the session.
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    torch.set_num_threads(1)
    decoding_memory.total, decoding_memory.gives_more = memory, False
    for at, (connection, shared) in enumerate(connections):
        if os.fork() == 0:
            # An end that another process holds too would never be seen as closed.
            for other, _ in connections[at + 1 :]:
                os.close(other)
            child = Child(mmap.mmap(shared, 0), threads)
            with suppress(OSError):
                serve(socket.socket(fileno=connection), child)
            os._exit(0)
        os.close(connection)
    end_with_parent(parent, by_signal=False)
    with suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    numbers = [int(number) for number in sys.argv[1:]]
    main(numbers[0], numbers[1], numbers[2], list(zip(numbers[3::2], numbers[4::2], strict=True)))
