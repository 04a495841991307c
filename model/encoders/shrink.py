"""Make large pictures smaller before they are resized exactly. It loads no torch."""

from __future__ import annotations

from PIL import Image

from everylabel.model.encoders.rgb import TILE_SIDE

# Normalises to zero in the default encoder, so that bars beside a narrow crop say as little as possible.
PADDING = (127, 127, 127)
REDUCING_GAP = 3.0


def fitted(image: Image.Image, size: int) -> tuple[int, int]:
    """Return the width and height of an image that fits into a square, shape kept."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return width, height


def shrink(image: Image.Image, width: int, height: int) -> Image.Image:
    """Make a huge RGB image smaller, in a fraction of the time that resizing it would take.

    Args:
        image: RGB.
        width: what it is to be resized to.
        height: the same.

    Returns:
        An image of exactly this size, or one that is still to be resized; the image itself where it is not huge.
    """
    if min(image.width / width, image.height / height) >= 2 * REDUCING_GAP:
        # A huge photograph is decimated cheaply before the exact resampling.
        return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)
    across, down = (max(1, int(n / REDUCING_GAP)) for n in (image.width / width, image.height / height))
    if max(across, down) > 1 and image.width * image.height > TILE_SIDE**2:
        # One side is hardly shrunk, or not at all: of a picture 100,000,000 pixels wide and one high, say.
        return image.reduce((across, down))
    return image
