"""A crop that is a box on a larger picture: where its box stands in a task's address, and how it is cut out.

The address of such a crop is the picture's with a media fragment (W3C Media Fragments URI 1.0):
`photo.jpg#xywh=percent:10,20,30,40`. So wherever an image's address goes, its box goes along.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from backend.image_file import NotAnImageError

_FRAGMENT = re.compile(r"#xywh=percent:([0-9.]+),([0-9.]+),([0-9.]+),([0-9.]+)$")
ROUNDING = 0.5
"""How many percent a box may reach beyond the picture: detectors and exports round."""


@dataclass(frozen=True)
class Box:
    """A box in percent of the picture, as Label Studio counts: x and y of its upper left corner, width, height."""

    x: float
    y: float
    width: float
    height: float

    def problem(self) -> str | None:
        """What is wrong with it; None if it lies on the picture."""
        if not self.width > 0 or not self.height > 0:
            return f"its width and height are {self.width:g} and {self.height:g}"
        right, bottom = self.x + self.width, self.y + self.height
        if min(self.x, self.y) < -ROUNDING or max(right, bottom) > 100 + ROUNDING:
            return (
                f"it reaches from {self.x:g} to {right:g} % across and from {self.y:g} to {bottom:g} % down"
            )
        seen = self.clipped()
        if not seen.width > 0 or not seen.height > 0:
            return f"of its {self.width:g} x {self.height:g} % nothing lies on it"
        return None

    def clipped(self) -> Box:
        """The part of it that lies on the picture."""
        x, y = max(0.0, self.x), max(0.0, self.y)
        right, bottom = min(100.0, self.x + self.width), min(100.0, self.y + self.height)
        return Box(*(round(value, 4) for value in (x, y, right - x, bottom - y)))

    def value(self) -> dict[str, Any]:
        """The `value` of a rectangle in Label Studio."""
        return {"x": self.x, "y": self.y, "width": self.width, "height": self.height, "rotation": 0}


@dataclass(frozen=True)
class BoxKeys:
    """Where a task's data says which box of its picture is the crop, and the control that shows it."""

    keys: tuple[str, ...]
    """Of x, y, width and height."""
    size_keys: tuple[str, ...]
    """Of the picture's width and height in pixels, where the box is in pixels; none where it is in percent."""
    from_name: str
    region_type: str
    region_label: str | None
    """What a `<RectangleLabels>` calls the box."""

    def box(self, data: Mapping[str, Any]) -> Box:
        """The box of a task.

        Raises:
            ValueError: the data lacks a number, or the box is not on the picture; the message says so.
        """
        numbers = [_number(data, key) for key in self.keys]
        if self.size_keys:
            sizes = [_number(data, key) for key in self.size_keys]
            if min(sizes) <= 0:
                raise ValueError(f"the picture's {' and '.join(self.size_keys)} must be above 0")
            numbers = [100 * number / sizes[i % 2] for i, number in enumerate(numbers)]
        box = Box(*numbers)
        wrong = box.problem()
        if wrong is not None:
            raise ValueError(f"the box is not on the picture: {wrong}")
        return box.clipped()


def address(url: str, box: Box) -> str:
    """The address of a box on a picture."""
    return f"{url}#xywh=percent:{box.x:g},{box.y:g},{box.width:g},{box.height:g}"


def split(url: str) -> tuple[str, Box | None]:
    """A crop's address as its picture's address and its box; None for the whole picture."""
    match = _FRAGMENT.search(url)
    if match is None:
        return url, None
    try:
        box = Box(*(float(number) for number in match.groups()))
    except ValueError:
        return url, None
    return url[: match.start()], box


def cut(picture: Image.Image, box: Box | None) -> Image.Image:
    """The pixels of a box, at least one; the whole picture without one.

    Raises:
        NotAnImageError: the box does not lie on the picture.
    """
    if box is None:
        return picture
    wrong = box.problem()
    if wrong is not None:
        raise NotAnImageError(f"The box is not on the picture: {wrong}", "Correct the box in the task's data")
    box = box.clipped()
    left = min(picture.width - 1, round(box.x / 100 * picture.width))
    top = min(picture.height - 1, round(box.y / 100 * picture.height))
    right = max(left + 1, round((box.x + box.width) / 100 * picture.width))
    bottom = max(top + 1, round((box.y + box.height) / 100 * picture.height))
    return picture.crop((left, top, right, bottom))


def _number(data: Mapping[str, Any], key: str) -> float:
    value = data.get(key)
    try:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            number = float(value)
            if abs(number) < 1e9:  # neither infinite nor NaN
                return number
    except ValueError:
        pass
    raise ValueError(f"{key!r} must be a number, not {str(value)[:40]!r}")
