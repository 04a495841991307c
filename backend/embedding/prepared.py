"""A crop as an encoder takes it, with the digest that tells equal pixels."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 16


@dataclass(frozen=True)
class Prepared:
    """A crop as an encoder takes it; crops with the same `digest` have the same pixels, so the same row."""

    pixels: NDArray[Any]
    digest: bytes


def with_digest(pixels: NDArray[Any]) -> Prepared:
    """Return prepared pixels with their digest."""
    return Prepared(pixels, blake2b(np.ascontiguousarray(pixels).data, digest_size=DIGEST_BYTES).digest())
