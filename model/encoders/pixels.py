"""Any picture Pillow can open -> RGB pixels of one size, looking as a browser shows it to the annotator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

# Normalises to zero in the default encoder, so that bars beside a narrow crop say as little as possible.
PADDING = (127, 127, 127)


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn an image of any mode into upright RGB, as a browser shows it.

    EXIF rotation is applied, transparency is laid over white, 16-bit grey is scaled by 1/257 (a plain
    `convert("RGB")` clips it to white), floating-point grey is stretched to its own range, and an
    animation is its first frame.
    """
    if getattr(image, "is_animated", False):
        image.seek(0)
    image = ImageOps.exif_transpose(image) or image
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
    # reducing_gap decimates a huge photograph cheaply before the exact resampling.
    fitted = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    if (width, height) == (size, size):
        return np.asarray(fitted, dtype=np.uint8)
    square = Image.new("RGB", (size, size), PADDING)
    square.paste(fitted, ((size - width) // 2, (size - height) // 2))
    return np.asarray(square, dtype=np.uint8)


def _grey_to_rgb(values: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
