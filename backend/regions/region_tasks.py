"""Regions with a class each: one task a region in a project of their own, and what is learned back into place.

Label Studio serves and locks whole tasks, and a task counts as labelled with its first annotation. So a picture
with twenty regions cannot be asked about one region at a time. A second project can: its tasks are the regions,
as boxes and polygons on the same pictures, and it is an active-learning project like any other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from everylabel.backend.label_studio import crop_shapes, required_class
from everylabel.backend.label_studio.crop_fields import is_outline
from everylabel.backend.label_studio.crop_shapes import Box, Polygon, Shape
from everylabel.backend.label_studio.label_config import POLYGONS, RECTANGLES, ImageChoices, LabelConfigError
from everylabel.backend.label_studio.publisher import version_name
from everylabel.model import label_set

IMAGE, POINTS, TASK, REGION = "image", "points", "from_task", "region"
"""Data of a region's task: its picture, a polygon's points, and where it came from."""
KEPT = ("id", "from_name", "to_name", "type", "value", "original_width", "original_height", "image_rotation")
"""What of a drawn region goes back."""
_VERSION = re.compile(r"regions, round (\d+)(?:, (\d+))?")
CONFIG = """<View>
  <Image name="image" value="$image" crop="$x $y $width $height" cropRotation="$rotation"{points} cropUnit="percent"
         zoom="true"/>
  <Rectangle name="box" toName="image"/>{polygon}
  <Choices name={name} toName="image" choice={choice} showInline="true"{required}>
    {choices}
  </Choices>
</View>
"""


@dataclass(frozen=True)
class RegionChoices:
    """The part of a labeling config that gives regions of an image a class each."""

    from_name: str
    to_name: str
    image_key: str
    classes: tuple[str, ...]
    multiple: bool
    drawing: tuple[str, ...]
    """The controls that draw the regions."""
    polygons: bool
    """Whether one of them draws polygons."""

    def config(self) -> str:
        """The labeling config of a project in which every region is a task."""
        return CONFIG.format(
            name=quoteattr(self.from_name),
            choice=quoteattr("multiple" if self.multiple else "single"),
            points=' cropPoints="$points"' if self.polygons else "",
            polygon='\n  <Polygon name="outline" toName="image"/>' if self.polygons else "",
            # Of several classes none may be meant.
            required="" if self.multiple else f" {required_class.ATTRIBUTES}",
            choices="\n    ".join(f"<Choice value={quoteattr(name)}/>" for name in self.classes),
        )


@dataclass(frozen=True)
class Region:
    """A region of a task, and the class a person has given it."""

    task_id: int
    drawn: Mapping[str, Any]
    """Its rectangle or polygon as Label Studio holds it."""
    picture: str
    choices: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The region's id, the same for what is drawn and its class."""
        return str(self.drawn["id"])

    @property
    def shape(self) -> Shape | None:
        """Where it lies; None where it is not on the picture.

        That an annotator has turned the picture (`image_rotation`) changes nothing: Label Studio counts from the
        corner that is upper left without.
        """
        value = self.drawn["value"]
        shape: Shape | None = None
        x, y, width, height, turned = (value.get(name) for name in ("x", "y", "width", "height", "rotation"))
        points = value.get("points")
        if is_outline(points) and points:
            shape = Polygon(tuple((float(x), float(y)) for x, y in points))
        elif all(isinstance(number, (int, float)) for number in (x, y, width, height, turned or 0)):
            shape = Box(x, y, width, height, crop_shapes.degrees(turned or 0))
        return None if shape is None or shape.problem(self._size) else shape.clipped()

    @property
    def _size(self) -> tuple[int, int] | None:
        """The picture's width and height in pixels, where Label Studio has noted them."""
        width, height = self.drawn.get("original_width"), self.drawn.get("original_height")
        if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
            return width, height
        return None


def parse(config: str) -> RegionChoices:
    """Find the per-region `<Choices>` of a labeling config and what draws its regions.

    Raises:
        LabelConfigError: there is none, or nothing draws rectangles or polygons; the message says what to change.
    """
    from label_studio_sdk.label_interface import LabelInterface  # noqa: PLC0415 - takes long to load

    try:
        interface = LabelInterface(config)
        controls = list(interface.controls)
        images = {tag.name: tag for tag in interface.objects if tag.tag.lower() == "image"}
    except Exception as error:
        raise LabelConfigError(f"The labeling config cannot be read: {error}") from error
    for control in controls:
        about = {key.lower(): value for key, value in control.attr.items()}
        image = next((images[name] for name in control.to_name if name in images), None)
        per_region = about.get("perregion", "").lower() == "true"
        if control.tag.lower() != "choices" or image is None or not per_region:
            continue
        drawing = {c.name: c.tag.lower() for c in controls if image.name in c.to_name and _draws(c)}
        classes = tuple(label for label in control.labels if label)
        if drawing and classes and (image.value or "").startswith("$"):
            multiple = about.get("choice", "").lower() == "multiple"
            return RegionChoices(
                from_name=control.name,
                to_name=image.name,
                image_key=image.value[1:],
                classes=classes,
                multiple=multiple,
                drawing=tuple(drawing),
                polygons=not {*POLYGONS}.isdisjoint(drawing.values()),
            )
    raise LabelConfigError(
        'The labeling config needs a <Choices perRegion="true"> with classes and a <Rectangle>, <RectangleLabels>, '
        '<Polygon> or <PolygonLabels>, both for one <Image value="$...">. Ellipses, brushes and key points are not read.'
    )


def _draws(control: Any) -> bool:
    return control.tag.lower() in RECTANGLES + POLYGONS


def regions(task: Mapping[str, Any], control: RegionChoices) -> Iterator[Region]:
    """The regions of a task: those people drew, then those of predictions that nobody has drawn.

    Args:
        task: with its annotations and predictions.
        control: which controls draw and classify.
    """
    data = task.get("data")
    picture = data.get(control.image_key) if isinstance(data, Mapping) else None
    if not isinstance(picture, str) or not picture:
        return
    people = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
    models = [
        p for p in task.get("predictions") or [] if not is_ours(p.get("model_version")) and p.get("result")
    ]
    # Of several models the newest speaks: two detectors would draw everything twice.
    results = [a.get("result") for a in people] or [p.get("result") for p in models[-1:]]
    drawings = [
        [item for item in (result if isinstance(result, list) else []) if isinstance(item, Mapping)]
        for result in results
    ]
    # Whoever leaves a region's class empty has not said that the one it was given is wrong: the newest given stays.
    chosen = {
        item.get("id"): tuple(item["value"]["choices"])
        for items in drawings
        for item in items
        if item.get("from_name") == control.from_name
        and isinstance(item.get("value"), Mapping)
        and item["value"].get("choices")
    }
    seen = set()
    for items in reversed(drawings):
        for item in items:
            if item.get("from_name") not in control.drawing or not isinstance(item.get("value"), Mapping):
                continue
            if not item.get("id") or item["id"] in seen:
                continue
            seen.add(item["id"])
            given = chosen.get(item["id"], ()) if people else ()
            yield Region(int(task["id"]), item, picture, given)


def as_task(region: Region, crops: ImageChoices) -> dict[str, Any]:
    """A region as a task of the project of regions; with an annotation where a person has classified it.

    Raises:
        ValueError: the region is not on its picture, or of a kind the project of regions does not take.
    """
    shape = region.shape
    if shape is None or crops.part is None or not crops.part.takes(shape):
        raise ValueError(f"region {region.id} of task {region.task_id} cannot be a crop of that project")
    box = shape.box if isinstance(shape, Polygon) else shape
    data: dict[str, Any] = {
        IMAGE: region.picture,
        **{side: round(number, 4) for side, number in box.value().items()},
        TASK: region.task_id,
        REGION: region.id,
    }
    if isinstance(shape, Polygon):
        data[POINTS] = shape.value()[POINTS]
    label = crops.choice([{"from_name": crops.from_name, "value": {"choices": [*region.choices]}}])
    if label is None or not crops.knows(label):
        return {"data": data}
    result = crops.result(label, url=crops.crop(data).url)
    return {"data": data, "annotations": [{"result": result, "ground_truth": False}]}


def prediction(
    task_id: int, found: Mapping[str, tuple[Region, str, float]], control: RegionChoices, version: str
) -> dict[str, Any]:
    """What is known of a task's regions as one prediction: each shape again, and its class by the same id.

    Args:
        task_id: the task the regions are of.
        found: by region id: the region, its label, and how sure that is.
        control: how the labeling config calls things.
        version: under which name people see it.
    """
    result: list[dict[str, Any]] = []
    for region, label, confidence in found.values():
        drawn = {key: region.drawn[key] for key in KEPT if key in region.drawn}
        place = {
            key: value
            for key, value in drawn["value"].items()
            if key not in ("rectanglelabels", "polygonlabels")
        }
        names = list(label_set.split(label)) if control.multiple else [label]
        chosen = {
            **drawn,
            "from_name": control.from_name,
            "to_name": control.to_name,
            "type": "choices",
            "value": {**place, "choices": names},
            "score": confidence,
        }
        result += [drawn, chosen]
    score = min(confidence for _, _, confidence in found.values())
    return {"task": task_id, "result": result, "score": round(score, 6), "model_version": version}


def version(number: int, known: Collection[str] = ()) -> str:
    """The name of what goes back into the project the regions came from, none of those Label Studio knows."""
    times = [count for name in known for round_, count in [version_order(name)] if round_ == number]
    name = f"regions, {version_name(number)}"
    return f"{name}, {max(times) + 1}" if times else name


def version_order(name: str) -> tuple[int, int]:
    """The round of a version that went back, and the how many-eth of that round it is; (-1, 0) for any other."""
    match = _VERSION.fullmatch(name)
    return (int(match.group(1)), int(match.group(2) or 1)) if match else (-1, 0)


def is_ours(model_version: object) -> bool:
    """Whether a prediction is one that went back, and not a detector's."""
    return isinstance(model_version, str) and model_version.startswith("regions, round ")
