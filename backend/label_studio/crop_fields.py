"""The task fields that hold a crop's shape, and the controls that show it to an annotator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.crop_shapes import Box, Polygon, Shape

LARGEST = 1e9
"""Above all coordinates; neither infinity nor NaN is below it."""


@dataclass(frozen=True)
class Drawing:
    """A control that draws a crop's shape on its picture."""

    from_name: str
    region_type: str
    """`rectangle`, `rectanglelabels`, `polygon` or `polygonlabels`."""
    label: str | None
    """The name of the shape in a control with labels."""


@dataclass(frozen=True)
class CropKeys:
    """The fields of a task's data that hold the crop's box or polygon."""

    box: tuple[str, ...] = ()
    """Of x, y, width and height; none where every crop is a polygon."""
    rotation: str | None = None
    """Of the box's rotation in degrees."""
    points: str | None = None
    """Of the polygon's points; a task that has none has a box."""
    size: tuple[str, ...] = ()
    """Of the picture's width and height in pixels, where all is in pixels; none where it is in percent."""
    box_drawing: Drawing | None = None
    polygon_drawing: Drawing | None = None

    def takes(self, shape: Shape) -> bool:
        """Return whether a task's data can hold such a shape."""
        if isinstance(shape, Polygon):
            return self.points is not None
        return bool(self.box) and (self.rotation is not None or not shape.rotation)

    def shape(self, data: Mapping[str, Any]) -> Shape:
        """Return the shape of a task's crop.

        Raises:
            ValueError: the data lacks a number, or the shape is not on the image; the message says so.
        """
        sizes = [_number(data, key) for key in self.size]
        if sizes and min(sizes) <= 0:
            raise ValueError(f"the picture's {' and '.join(self.size)} must be above 0")
        # In percent of the width, and of the height.
        scales = [100 / size for size in sizes] or [1.0, 1.0]
        points = None if self.points is None else data.get(self.points)
        shape: Shape
        if self.points is not None and (points or not self.box):
            shape = Polygon(tuple((x * scales[0], y * scales[1]) for x, y in _pairs(points, self.points)))
        else:
            x, y, width, height = (_number(data, key) * scales[i % 2] for i, key in enumerate(self.box))
            turned = 0.0 if self.rotation is None else _number(data, self.rotation)
            shape = Box(x, y, width, height, crop_shapes.degrees(turned))
        wrong = shape.problem(_pixels(sizes))
        if wrong is not None:
            raise ValueError(f"the {shape.kind} is not on the picture: {wrong}")
        return shape.clipped()

    def drawn(self, url: str, to_name: str) -> list[dict[str, Any]]:
        """Return the locked region that shows an annotator which part of the image is meant.

        Args:
            url: the crop's address.
            to_name: the labeling config's name of the image.
        """
        shape = crop_shapes.split(url)[1]
        control = self.polygon_drawing if isinstance(shape, Polygon) else self.box_drawing
        if shape is None or control is None:
            return []
        value = shape.value()
        if control.label is not None:
            value[control.region_type] = [control.label]
        return [
            {
                "id": "crop",
                "from_name": control.from_name,
                "to_name": to_name,
                "type": control.region_type,
                "value": value,
                "image_rotation": 0,
                "readonly": True,
            }
        ]


def is_outline(value: object) -> bool:
    """Return whether a field of a task's data may be a polygon's points."""
    return isinstance(value, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in pair)
        for pair in value
    )


def _pixels(sizes: Sequence[float]) -> tuple[int, int] | None:
    return (max(1, round(sizes[0])), max(1, round(sizes[1]))) if sizes else None


def _pairs(value: object, key: str) -> list[tuple[float, float]]:
    if not isinstance(value, list) or not is_outline(value):
        raise ValueError(f"{key!r} must be a list of points [x, y], not {_shown(value)}")
    # Compared before they become floats: a whole number of 400 digits is none.
    if not all(abs(number) < LARGEST for pair in value for number in pair):
        raise ValueError(f"{key!r} must be a list of points [x, y] in numbers")
    return [(float(x), float(y)) for x, y in value]


def _number(data: Mapping[str, Any], key: str) -> float:
    value = data.get(key)
    try:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            number = float(value)
            if abs(number) < LARGEST:
                return number
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{key!r} must be a number, not {_shown(value)}")


def _shown(value: object) -> str:
    """Quote a value of a task's data for a message; a huge or nested one is named by its kind."""
    if isinstance(value, str):
        return repr(value[:40])
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if abs(value) < LARGEST else "a number of that size"
    return "a list" if isinstance(value, list) else "an object"
