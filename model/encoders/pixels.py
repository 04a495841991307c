"""Any picture Pillow can open -> RGB pixels of one size, looking as a browser shows it to the annotator."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch.nn import functional

# Normalises to zero in the default encoder, so that bars beside a narrow crop say as little as possible.
PADDING = (127, 127, 127)
REDUCING_GAP = 3.0
TILE_SIDE = 1024


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
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    if factor == 1 and (animated or turned):
        image = ImageOps.exif_transpose(image) or image  # a copy, whether turned or not
        turned = False
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
    if turned:
        found.getexif()[ExifTags.Base.Orientation] = image.getexif()[ExifTags.Base.Orientation]
        found = ImageOps.exif_transpose(found) or found
    return found


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


def letterbox(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Fit an RGB image into a square, shape kept, grey bars beside it: (size, size, 3) uint8."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    left, top = (size - width) // 2, (size - height) // 2
    square = np.empty((size, size, 3), dtype=np.uint8)
    if (width, height) != (size, size):
        square[...] = PADDING
    square[top : top + height, left : left + width] = _resized(image, width, height)
    return square


def _resized(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    if min(image.width / width, image.height / height) >= 2 * REDUCING_GAP:
        # A huge photograph is decimated cheaply before the exact resampling.
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP))
    across, down = (max(1, int(n / REDUCING_GAP)) for n in (image.width / width, image.height / height))
    if max(across, down) > 1 and image.width * image.height > TILE_SIDE**2:
        # One side is hardly shrunk, or not at all: of a picture 100,000,000 pixels wide and one high, say.
        image = image.reduce((across, down))
    # Pillow's own result but for 1 in 255 here and there, in a fifth of the time.
    # Made so, it is laid out in memory with its colours last, and nothing has to be moved.
    pixels = torch.from_numpy(np.array(image)).unsqueeze(0).permute(0, 3, 1, 2)
    resized = functional.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def _grey_to_rgb(values: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
