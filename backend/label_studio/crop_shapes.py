"""The shape of a crop that is part of a larger image, as written in a task's address.

The address of such a crop is the image's with a media fragment (W3C Media Fragments URI 1.0):
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

_BOX = re.compile(
    r"#xywh=percent:(-?[0-9.]+),(-?[0-9.]+),([0-9.]+),([0-9.]+)(?:&turned=([0-9.]+))?$", re.ASCII
)
_POLYGON = re.compile(r"#polygon=percent:([0-9.]+(?:,[0-9.]+)*)$", re.ASCII)
ROUNDING = 0.5
"""How many percent a box or a polygon may reach beyond the picture: detectors and exports round."""
BEYOND = 10.0
"""How many percent a turned box may: at the picture's edge it can hardly be drawn otherwise, and it cannot be clipped."""


@dataclass(frozen=True)
class Box:
    """A box in percent of the image, as Label Studio counts.

    Label Studio turns a box around its upper left corner, and in pixels: the sides stay at a right angle on an image of
    any proportions.
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
        """Return what is wrong with the box; None if it lies on the image.

        Args:
            size: the image's width and height in pixels, without which the reach of a turned box is unknown.
        """
        if not all(map(math.isfinite, (self.x, self.y, self.width, self.height, self.rotation))):
            return "one of its numbers is too large"
        if not self.width > 0 or not self.height > 0:
            return f"its width and height are {self.width:g} and {self.height:g}"
        if self.rotation:
            return None if size is None else self._reach(self.corners(size), size)
        right, bottom = self.x + self.width, self.y + self.height
        if min(self.x, self.y) < -ROUNDING or max(right, bottom) > 100 + ROUNDING:
            return _reaches(self.x, right, self.y, bottom)
        seen = self.clipped()
        if not seen.width > 0 or not seen.height > 0:
            return f"no part of its {self.width:g} x {self.height:g} % lies on it"
        return None

    @staticmethod
    def _reach(corners: Sequence[tuple[float, float]], size: tuple[int, int]) -> str | None:
        across = [100 * x / size[0] for x, _ in corners]
        down = [100 * y / size[1] for _, y in corners]
        if min(*across, *down) < -BEYOND or max(*across, *down) > 100 + BEYOND:
            return _reaches(min(across), max(across), min(down), max(down))
        return None

    def clipped(self) -> Box:
        """Return the part that lies on the image; a turned box stays whole, or it would not be a box."""
        if self.rotation:
            return Box(
                *(round(value, 4) for value in (self.x, self.y, self.width, self.height, self.rotation))
            )
        x, y = max(0.0, self.x), max(0.0, self.y)
        right, bottom = min(100.0, self.x + self.width), min(100.0, self.y + self.height)
        return Box(*(round(value, 4) for value in (x, y, right - x, bottom - y)))

    def corners(self, size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
        """Return the corners in pixels of an image of this width and height, clockwise from the upper left one."""
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
        """Return the `value` of a rectangle in Label Studio."""
        sides = {"x": self.x, "y": self.y, "width": self.width, "height": self.height}
        return {**sides, "rotation": self.rotation}

    def fragment(self) -> str:
        """Return the fragment to append to the image's address."""
        turned = f"&turned={_written(self.rotation)}" if self.rotation else ""
        return f"#xywh=percent:{_written(self.x, self.y, self.width, self.height)}{turned}"


@dataclass(frozen=True)
class Polygon:
    """A polygon in percent of the image, as Label Studio counts."""

    kind: ClassVar[str] = "polygon"

    points: tuple[tuple[float, float], ...]

    @property
    def box(self) -> Box:
        """The upright box around it."""
        across, down = [x for x, _ in self.points], [y for _, y in self.points]
        x, y = min(across), min(down)
        return Box(x, y, max(across) - x, max(down) - y)

    def problem(self, size: tuple[int, int] | None = None) -> str | None:
        """Return what is wrong with the polygon; None if it lies on the image."""
        if len(self.points) < 3:
            return f"it needs at least three points and has {len(self.points)}"
        return self.box.problem(size)

    def clipped(self) -> Polygon:
        """Return the polygon with every point beyond the image moved to its edge."""
        return Polygon(
            tuple((round(clamp(x, 0, 100), 4), round(clamp(y, 0, 100), 4)) for x, y in self.points)
        )

    def value(self) -> dict[str, Any]:
        """Return the `value` of a polygon in Label Studio."""
        return {"points": [[x, y] for x, y in self.points], "closed": True}

    def fragment(self) -> str:
        """Return the fragment to append to the image's address."""
        return "#polygon=percent:" + _written(*(number for point in self.points for number in point))


Shape = Box | Polygon


def degrees(rotation: float) -> float:
    """Reduce a rotation to 0 … 360 degrees, rounded as it is written: whole turns vanish."""
    return round(rotation % 360, 4) % 360


def address(url: str, shape: Shape) -> str:
    """Return the address of a shape on an image."""
    return url + shape.fragment()


def split(url: str) -> tuple[str, Shape | None]:
    """Split a crop's address into its image's address and its shape; None for the whole image."""
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


def _written(*numbers: float) -> str:
    return ",".join(f"{number:.4f}".rstrip("0").rstrip(".") for number in numbers)


def clamp(value: float, least: float, most: float) -> float:
    """Return the value in `least` … `most` that is nearest to `value`."""
    return min(most, max(least, value))


def _reaches(left: float, right: float, top: float, bottom: float) -> str:
    return f"it reaches from {left:g} to {right:g} % across and from {top:g} to {bottom:g} % down"
