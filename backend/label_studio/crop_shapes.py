"""A crop that is a part of a larger picture: where its shape stands in a task's address, and how it is cut out.

The address of such a crop is the picture's with a media fragment (W3C Media Fragments URI 1.0):
`photo.jpg#xywh=percent:10,20,30,40`. The standard has no turned boxes and no polygons; theirs are
`#xywh=percent:10,20,30,40&turned=15` and `#polygon=percent:10,20,40,20,25,60`. So wherever an image's address goes,
its shape goes along.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image, ImageDraw, ImageStat

from everylabel.backend.images.decode import NotAnImageError

_BOX = re.compile(
    r"#xywh=percent:(-?[0-9.]+),(-?[0-9.]+),([0-9.]+),([0-9.]+)(?:&turned=([0-9.]+))?$", re.ASCII
)
_POLYGON = re.compile(r"#polygon=percent:([0-9.]+(?:,[0-9.]+)*)$", re.ASCII)
ROUNDING = 0.5
"""How many percent a box or a polygon may reach beyond the picture: detectors and exports round."""
BEYOND = 10.0
"""How many percent a turned box may: at the picture's edge it can hardly be drawn otherwise, and it cannot be clipped."""
SAMPLE = 64
"""Rows and columns of the picture that its mean colour is taken from."""


@dataclass(frozen=True)
class Box:
    """A box in percent of the picture, as Label Studio counts.

    Label Studio turns a box around its upper left corner, and in pixels: the sides stay at a right angle on a picture
    of any proportions.
    """

    kind: ClassVar[str] = "box"

    x: float
    """Of its upper left corner; of a turned box's too."""
    y: float
    width: float
    height: float
    rotation: float = 0
    """Degrees clockwise, from 0 to below 360."""

    def problem(self, size: tuple[int, int] | None = None) -> str | None:
        """What is wrong with it; None if it lies on the picture.

        Args:
            size: the picture's width and height in pixels, without which nobody knows where a turned box ends.
        """
        if not all(map(math.isfinite, (self.x, self.y, self.width, self.height, self.rotation))):
            return "a number of it is too large to be one"
        if not self.width > 0 or not self.height > 0:
            return f"its width and height are {self.width:g} and {self.height:g}"
        if self.rotation:
            return None if size is None else self._reach(self.corners(size), size)
        right, bottom = self.x + self.width, self.y + self.height
        if min(self.x, self.y) < -ROUNDING or max(right, bottom) > 100 + ROUNDING:
            return _reaches(self.x, right, self.y, bottom)
        seen = self.clipped()
        if not seen.width > 0 or not seen.height > 0:
            return f"of its {self.width:g} x {self.height:g} % nothing lies on it"
        return None

    @staticmethod
    def _reach(corners: Sequence[tuple[float, float]], size: tuple[int, int]) -> str | None:
        across = [100 * x / size[0] for x, _ in corners]
        down = [100 * y / size[1] for _, y in corners]
        if min(*across, *down) < -BEYOND or max(*across, *down) > 100 + BEYOND:
            return _reaches(min(across), max(across), min(down), max(down))
        return None

    def clipped(self) -> Box:
        """The part of it that lies on the picture; a turned box stays whole, or it would be none."""
        if self.rotation:
            return Box(
                *(round(value, 4) for value in (self.x, self.y, self.width, self.height, self.rotation))
            )
        x, y = max(0.0, self.x), max(0.0, self.y)
        right, bottom = min(100.0, self.x + self.width), min(100.0, self.y + self.height)
        return Box(*(round(value, 4) for value in (x, y, right - x, bottom - y)))

    def corners(self, size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
        """Its corners in pixels of a picture of this width and height: upper left, upper right, lower right, lower left."""
        x, y = self.x / 100 * size[0], self.y / 100 * size[1]
        width, height = self.width / 100 * size[0], self.height / 100 * size[1]
        cos, sin = math.cos(math.radians(self.rotation)), math.sin(math.radians(self.rotation))
        right, down = (width * cos, width * sin), (-height * sin, height * cos)
        return (
            (x, y),
            (x + right[0], y + right[1]),
            (x + right[0] + down[0], y + right[1] + down[1]),
            (x + down[0], y + down[1]),
        )

    def value(self) -> dict[str, Any]:
        """The `value` of a rectangle in Label Studio."""
        sides = {"x": self.x, "y": self.y, "width": self.width, "height": self.height}
        return {**sides, "rotation": self.rotation}

    def fragment(self) -> str:
        """What its picture's address ends with."""
        turned = f"&turned={_written(self.rotation)}" if self.rotation else ""
        return f"#xywh=percent:{_written(self.x, self.y, self.width, self.height)}{turned}"


@dataclass(frozen=True)
class Polygon:
    """A polygon in percent of the picture, as Label Studio counts."""

    kind: ClassVar[str] = "polygon"

    points: tuple[tuple[float, float], ...]

    @property
    def box(self) -> Box:
        """The upright box around it."""
        across, down = [x for x, _ in self.points], [y for _, y in self.points]
        x, y = min(across), min(down)
        return Box(x, y, max(across) - x, max(down) - y)

    def problem(self, size: tuple[int, int] | None = None) -> str | None:
        """What is wrong with it; None if it lies on the picture."""
        if len(self.points) < 3:
            return f"it takes three points or more, and has {len(self.points)}"
        return self.box.problem(size)

    def clipped(self) -> Polygon:
        """It, with what lies beyond the picture moved to the edge."""
        return Polygon(
            tuple((round(_within(x, 0, 100), 4), round(_within(y, 0, 100), 4)) for x, y in self.points)
        )

    def value(self) -> dict[str, Any]:
        """The `value` of a polygon in Label Studio."""
        return {"points": [[x, y] for x, y in self.points], "closed": True}

    def fragment(self) -> str:
        """What its picture's address ends with."""
        return "#polygon=percent:" + _written(*(number for point in self.points for number in point))


Shape = Box | Polygon


def degrees(rotation: float) -> float:
    """A rotation as an angle from 0 to below 360: nothing is left of a whole turn, or of less than is written down."""
    return round(rotation % 360, 4) % 360


def address(url: str, shape: Shape) -> str:
    """The address of a shape on a picture."""
    return url + shape.fragment()


def split(url: str) -> tuple[str, Shape | None]:
    """A crop's address as its picture's address and its shape; None for the whole picture."""
    match = _BOX.search(url) or _POLYGON.search(url)
    if match is None:
        return url, None
    try:
        shape: Shape
        if match.re is _BOX:
            shape = Box(*(float(number) for number in match.groups() if number is not None))
        else:
            numbers = [float(number) for number in match.group(1).split(",")]
            shape = Polygon(tuple(zip(numbers[::2], numbers[1::2], strict=True)))
    except ValueError:
        return url, None
    return url[: match.start()], shape


def cut(picture: Image.Image, shape: Shape | None) -> Image.Image:
    """The pixels of a shape, at least one; the whole picture without one.

    A turned box is turned upright. What a polygon leaves of the box around it, and what of a turned box lies beyond
    the picture, is of the picture's mean colour: whoever draws an outline says that the rest does not count, and two
    shapes with the same box around them are two crops.

    Args:
        picture: RGB, upright.
        shape: None for all of it.

    Raises:
        NotAnImageError: the shape does not lie on the picture.
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
    """Left, top, right and bottom of an upright box."""
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
            _within(int(x / 100 * picture.width) - left, 0, crop.width - 1),
            _within(int(y / 100 * picture.height) - top, 0, crop.height - 1),
        )
        for x, y in polygon.points
    ]
    ImageDraw.Draw(outside).polygon(points, fill=0)
    crop.paste(_mean_colour(picture), None, outside)
    return crop


def _mean_colour(picture: Image.Image) -> tuple[int, ...]:
    sample = picture.resize((SAMPLE, SAMPLE), Image.Resampling.NEAREST)
    return tuple(round(value) for value in ImageStat.Stat(sample).mean)


def _written(*numbers: float) -> str:
    return ",".join(f"{number:.4f}".rstrip("0").rstrip(".") for number in numbers)


def _within(value: float, least: float, most: float) -> float:
    return min(most, max(least, value))


def _reaches(left: float, right: float, top: float, bottom: float) -> str:
    return f"it reaches from {left:g} to {right:g} % across and from {top:g} to {bottom:g} % down"
