"""Decode images in a process of its own, one after the other: what `decoding_process.py` starts, and may kill."""

from __future__ import annotations

import json
import resource
import select
import struct
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from PIL import AvifImagePlugin, UnidentifiedImageError

from everylabel.backend.bounded_process import bound_resources, end_with_parent
from everylabel.backend.images.decoding_limits import ImageLimits
from everylabel.backend.images.load import load_rgb
from everylabel.backend.label_studio.crop_errors import ImageError

HEADER = struct.Struct(">IQ")
"""The lengths of a message's two parts: JSON, and bytes."""
OPENING_BYTES = 128_000_000
"""Memory for opening an image, beside twice its file: tables of strips and tiles, and the decoder's own buffers."""
SPARE = 2
"""How many times the memory it is estimated to take an image may take."""
IDLE_SECONDS = 60.0
ROWS_OF_BYTES = 4_000_000
"""Pixels are sent in portions of about so many bytes."""


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Decode images as they are asked for, until the other side ends or asks for none for a while."""
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each would have a stack, which counts as memory
    while select.select([requests], [], [], IDLE_SECONDS)[0]:
        message = receive(requests)
        if message is None:
            return
        answer(*message, requests, answers)


def answer(request: Mapping[str, Any], content: bytes, requests: BinaryIO, answers: BinaryIO) -> None:
    """Decode one image and send its pixels, or the reason why there are none.

    Args:
        request: `pixels` and `seconds` allowed, the image's `name`, how many pixels are `enough`, and `formats`.
        content: the file.
        requests: where the other side says to go on once it has memory for the image.
        answers: where the answer goes.
    """
    limits = ImageLimits(max_pixels=request["pixels"], decode_seconds=request["seconds"])
    opening = OPENING_BYTES + 2 * len(content)
    seconds = int(time.process_time() + limits.decode_seconds) + 1

    def take(needed: int) -> None:
        send(answers, {"takes": needed})
        if receive(requests) is None:
            raise SystemExit
        bound_resources(_memory() + opening + SPARE * needed, seconds)

    bound_resources(_memory() + opening, seconds)
    try:
        image = load_rgb(content, limits, request["name"], request["enough"], tuple(request["formats"]), take)
    except UnidentifiedImageError:
        send(answers, {"error": "UnidentifiedImageError"})
    except ImageError as error:
        send(answers, {"error": type(error).__name__, "reason": error.reason, "way_out": error.way_out})
    else:
        send(answers, {"size": image.size})
        rows = max(1, ROWS_OF_BYTES // (3 * image.width))
        for top in range(0, image.height, rows):
            below = min(top + rows, image.height)
            send(answers, {"top": top}, image.crop((0, top, image.width, below)).tobytes())


def send(to: BinaryIO, message: Mapping[str, Any], content: bytes = b"") -> None:
    """Write one message: JSON, and bytes."""
    head = json.dumps(message).encode()
    to.write(HEADER.pack(len(head), len(content)) + head)
    to.write(content)
    to.flush()


def receive(source: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Read one message; None once the other side has ended."""
    lengths = source.read(HEADER.size)
    if len(lengths) < HEADER.size:
        return None
    head, body = HEADER.unpack(lengths)
    message, content = source.read(head), source.read(body)
    if len(message) < head or len(content) < body:
        return None
    return json.loads(message), content


def _memory() -> int:
    """Return the bytes of memory of its own that this process has now; 0 where the system does not say."""
    with suppress(OSError, StopIteration):
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmData:")).split()[1]) * 1024
    return 0


if __name__ == "__main__":
    # The thread that started it ends before it does, and the kernel would take that for its parent's end.
    end_with_parent(int(sys.argv[1]), by_signal=False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with open(0, "rb") as incoming, open(1, "wb") as outgoing:
        serve(incoming, outgoing)
