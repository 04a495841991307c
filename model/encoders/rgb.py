"""Any image Pillow has loaded -> upright RGB, as a browser shows it to the annotator. It loads no torch."""

from __future__ import annotations

import re
import struct
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

TILE_SIDE = 1024
"""Large images are worked on in tiles of so many pixels a side."""
_UPRIGHT = 1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How an image of each EXIF orientation is made upright."""
_EXIF, _PROFILE = b"Exif\0\0", "Raw profile type exif"
_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""The types of EXIF that hold an orientation, as `struct` reads them."""
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def to_rgb(image: Image.Image, factor: int = 1) -> Image.Image:
    """Turn an image of any mode into upright RGB, as a browser shows it.

    EXIF rotation is applied, transparency is laid over white, 16-bit grey is scaled by 1/257 (a plain
    `convert("RGB")` clips it to white), floating-point grey is stretched to its own range, and an
    animation is its first frame. Beside the image itself, it takes memory for the result alone: a large one
    is worked on tile by tile.

    Args:
        image: loaded.
        factor: each square of so many pixels a side becomes one, their mean.

    Returns:
        RGB; the image itself where there is nothing to be done.
    """
    animated = getattr(image, "is_animated", False)
    if animated:
        image.seek(0)
    turn = _TURNS.get(orientation(image))
    if factor == 1 and (animated or turn is not None):
        image = image.copy() if turn is None else image.transpose(turn)
        turn = None
    if factor == 1 and image.mode == "RGB":
        return image
    stretch = _range(image) if image.mode == "F" else (0.0, 1.0)
    if factor == 1 and image.width * image.height <= TILE_SIDE**2:
        return _rgb(image, stretch)
    found = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    side = factor * max(1, TILE_SIDE // factor)
    for top in range(0, image.height, side):
        for left in range(0, image.width, side):
            box = (left, top, min(left + side, image.width), min(top + side, image.height))
            tile = _rgb(image.crop(box), stretch)
            found.paste(tile if factor == 1 else tile.reduce(factor), (left // factor, top // factor))
    return found if turn is None else found.transpose(turn)


def orientation(image: Image.Image) -> int:
    """Return an image's orientation as EXIF numbers it, from 1 (upright) to 8.

    It is read without Pillow's parser of EXIF, which before 13 keeps what each of thousands of tags points at, though it be the
    same: 300 kB take a gigabyte.

    Args:
        image: loaded.
    """
    if hasattr(image, "tag_v2"):  # TIFF, whose own tags Pillow has read by now
        return int(image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT))
    block, xmp = image.info.get("exif"), image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if block is None and isinstance(image.info.get(_PROFILE), str):
        with suppress(ValueError):
            block = bytes.fromhex("".join(image.info[_PROFILE].split("\n")[3:]))
    found = _in_exif(block) if isinstance(block, bytes) else None
    if found is None and (told := _XMP.search(xmp.encode() if isinstance(xmp, str) else xmp)):
        found = int(told[1])
    return _UPRIGHT if found is None else found


def _in_exif(block: bytes) -> int | None:
    """Return the orientation that an EXIF block tells; None if it tells none."""
    while block.startswith(_EXIF):
        block = block[len(_EXIF) :]
    order = {b"II": "<", b"MM": ">"}.get(block[:2], "")
    try:
        (at,) = struct.unpack_from(f"{order}I", block, 4) if order else (len(block),)
        (entries,) = struct.unpack_from(f"{order}H", block, at)
        for entry in range(at + 2, at + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", block, entry)
            if tag == ExifTags.Base.Orientation and kind in _NUMBERS and count == 1:
                return int(struct.unpack_from(f"{order}{_NUMBERS[kind]}", block, entry + 8)[0])
    except struct.error:  # cut off
        pass
    return None


def _rgb(image: Image.Image, stretch: tuple[float, float]) -> Image.Image:
    """Turn a picture, or a tile of one, into RGB; `stretch` says which grey is black, and what divides the others."""
    mode = image.mode
    if mode == "I" or mode.startswith("I;16"):
        return _grey_to_rgb(np.asarray(image, dtype=np.float32) / 257.0)
    if mode == "F":
        low, width = stretch
        return _grey_to_rgb((np.nan_to_num(np.asarray(image, dtype=np.float32)) - low) * (255.0 / width))
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


def _range(image: Image.Image) -> tuple[float, float]:
    """Return the least grey of a floating-point image, and how much lies between it and the largest."""
    low, high = np.inf, -np.inf
    for top in range(0, image.height, 16):
        rows = image.crop((0, top, image.width, min(top + 16, image.height)))
        values = np.nan_to_num(np.asarray(rows, dtype=np.float32))
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, max(high - low, 1e-12)


def _grey_to_rgb(values: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
