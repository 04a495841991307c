"""Cut a crop out of its image."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw, ImageStat

from everylabel.backend.images.errors import NotAnImageError
from everylabel.backend.label_studio.crop_shapes import Box, Polygon, Shape, clamp

SAMPLE = 64
"""Rows and columns of the picture that its mean colour is taken from."""


def cut(picture: Image.Image, shape: Shape | None) -> Image.Image:
    """Return the pixels of a shape, at least one; the whole image if there is no shape.

    A turned box is turned upright. What a polygon leaves of the box around it, and what of a turned box lies beyond
    the image, gets the image's mean colour: an outline says that the rest does not count, and two shapes with the
    same box around them are two crops.

    Args:
        picture: RGB, upright.
        shape: None for all of it.

    Raises:
        NotAnImageError: the shape does not lie on the image.
    """
    if shape is None:
        return picture
    wrong = shape.problem(picture.size)
    if wrong is not None:
        raise NotAnImageError(
            f"The {shape.kind} is not on the picture: {wrong}", f"Correct the {shape.kind} in the task's data"
        )
    if isinstance(shape, Polygon):
        return _outlined(picture, shape.clipped())
    return _turned(picture, shape) if shape.rotation else picture.crop(_pixels(picture, shape))


def _pixels(picture: Image.Image, box: Box) -> tuple[int, int, int, int]:
    """Return the left, top, right and bottom of an upright box."""
    box = box.clipped()
    left = min(picture.width - 1, round(box.x / 100 * picture.width))
    top = min(picture.height - 1, round(box.y / 100 * picture.height))
    right = max(left + 1, round((box.x + box.width) / 100 * picture.width))
    bottom = max(top + 1, round((box.y + box.height) / 100 * picture.height))
    return left, top, right, bottom


def _turned(picture: Image.Image, box: Box) -> Image.Image:
    (x, y), (right_x, right_y), _, (down_x, down_y) = box.corners(picture.size)
    width = max(1, round(math.hypot(right_x - x, right_y - y)))
    height = max(1, round(math.hypot(down_x - x, down_y - y)))
    # Where on the picture each pixel of the crop lies, from its upper left corner on.
    from_across = (right_x - x) / width, (right_y - y) / width
    from_down = (down_x - x) / height, (down_y - y) / height
    return picture.transform(
        (width, height),
        Image.Transform.AFFINE,
        (from_across[0], from_down[0], x, from_across[1], from_down[1], y),
        Image.Resampling.BICUBIC,
        fillcolor=_mean_colour(picture),
    )


def _outlined(picture: Image.Image, polygon: Polygon) -> Image.Image:
    left, top, right, bottom = _pixels(picture, polygon.box)
    crop = picture.crop((left, top, right, bottom))
    outside = Image.new("L", crop.size, 255)
    points = [
        (
            clamp(int(x / 100 * picture.width) - left, 0, crop.width - 1),
            clamp(int(y / 100 * picture.height) - top, 0, crop.height - 1),
        )
        for x, y in polygon.points
    ]
    ImageDraw.Draw(outside).polygon(points, fill=0)
    crop.paste(_mean_colour(picture), None, outside)
    return crop


def _mean_colour(picture: Image.Image) -> tuple[int, ...]:
    sample = picture.resize((SAMPLE, SAMPLE), Image.Resampling.NEAREST)
    return tuple(round(value) for value in ImageStat.Stat(sample).mean)
