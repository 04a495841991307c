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


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn an image of any mode into upright RGB, as a browser shows it.

    EXIF rotation is applied, transparency is laid over white, 16-bit grey is scaled by 1/257 (a plain
    `convert("RGB")` clips it to white), floating-point grey is stretched to its own range, and an
    animation is its first frame.
    """
    animated = getattr(image, "is_animated", False)
    if animated:
        image.seek(0)
    if animated or image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image) or image  # a copy, whether turned or not
    mode = image.mode
    if mode == "RGB":
        return image
    if mode == "I" or mode.startswith("I;16"):
        return _grey_to_rgb(np.asarray(image, dtype=np.float32) / 257.0)
    if mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float32))
        low, high = float(values.min()), float(values.max())
        return _grey_to_rgb((values - low) * (255.0 / max(high - low, 1e-12)))
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


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
    # Pillow's own result but for 1 in 255 here and there, in a fifth of the time.
    # Made so, it is laid out in memory with its colours last, and nothing has to be moved.
    pixels = torch.from_numpy(np.array(image)).unsqueeze(0).permute(0, 3, 1, 2)
    resized = functional.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def _grey_to_rgb(values: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
