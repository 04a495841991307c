"""Convert the regions of pictures into tasks of a project of their own, and their classes into predictions.

Label Studio serves and locks whole tasks, and a task counts as labelled with its first annotation. So it cannot ask
about one of twenty regions of a picture. A second project can: its tasks are the regions, as boxes and polygons on the
same pictures, and it is an active-learning project like any other.
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
"""Keys of the data of a region's task: its picture, a polygon's points, and the task and region it came from."""
KEPT = ("id", "from_name", "to_name", "type", "value", "original_width", "original_height", "image_rotation")
"""The keys of a drawn region that are written back."""
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
    """The names of the controls that draw the regions."""
    polygons: bool
    """True if one of them draws polygons."""

    def config(self) -> str:
        """Return the labeling config of a project in which every region is a task."""
        return CONFIG.format(
            name=quoteattr(self.from_name),
            choice=quoteattr("multiple" if self.multiple else "single"),
            points=' cropPoints="$points"' if self.polygons else "",
            polygon='\n  <Polygon name="outline" toName="image"/>' if self.polygons else "",
            # With several classes allowed, a person may mean none.
            required="" if self.multiple else f" {required_class.ATTRIBUTES}",
            choices="\n    ".join(f"<Choice value={quoteattr(name)}/>" for name in self.classes),
        )


@dataclass(frozen=True)
class Region:
    """A region of a task, and the classes that a person has given it."""

    task_id: int
    drawn: Mapping[str, Any]
    """Its rectangle or polygon as Label Studio stores it."""
    picture: str
    choices: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Return the region's id, which its shape and its class share."""
        return str(self.drawn["id"])

    @property
    def shape(self) -> Shape | None:
        """Return the region's shape, in percent of the picture; None if it is not on the picture.

        A picture that an annotator has rotated (`image_rotation`) makes no difference: Label Studio counts from the
        upper left corner of the picture as it was.
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
        """Return the picture's width and height in pixels, if Label Studio has stored them."""
        width, height = self.drawn.get("original_width"), self.drawn.get("original_height")
        if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
            return width, height
        return None


def parse(config: str) -> RegionChoices:
    """Find the per-region `<Choices>` of a labeling config and the controls that draw its regions.

    Args:
        config: The labeling config in XML.

    Returns:
        The first such `<Choices>`.

    Raises:
        LabelConfigError: There is none, or nothing draws rectangles or polygons; the message says what to change.
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
    """Yield the regions of a task: those that people drew, or else those of the newest prediction.

    Args:
        task: The task, with its annotations and predictions.
        control: The controls that draw and classify regions.

    Yields:
        Each region once, as the newest annotation has it.
    """
    data = task.get("data")
    picture = data.get(control.image_key) if isinstance(data, Mapping) else None
    if not isinstance(picture, str) or not picture:
        return
    people = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
    models = [
        p for p in task.get("predictions") or [] if not is_ours(p.get("model_version")) and p.get("result")
    ]
    # Of several models only the newest counts: two detectors would draw everything twice.
    results = [a.get("result") for a in people] or [p.get("result") for p in models[-1:]]
    drawings = [
        [item for item in (result if isinstance(result, list) else []) if isinstance(item, Mapping)]
        for result in results
    ]
    # An annotation that leaves a region's class empty does not reject the class given before: the newest one stays.
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
    """Return a region as a task of the project of regions, with an annotation if a person has classified it.

    Args:
        region: The region.
        crops: The choices of the project of regions.

    Returns:
        The task as Label Studio imports it.

    Raises:
        ValueError: The region is not on its picture, or of a kind that the project of regions does not take.
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
    """Return the classes of a task's regions as one prediction: each shape, and its class under the same id.

    Args:
        task_id: The task that has the regions.
        found: The region, its label and its confidence (0 to 1), by region id.
        control: The controls that draw and classify regions.
        version: The model version that people see.

    Returns:
        The prediction as Label Studio imports it; its score is the lowest confidence.
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
    """Return a name for the predictions that are written back, other than the names Label Studio knows.

    Args:
        number: The round that they come from.
        known: The model versions that exist already.

    Returns:
        `regions, round 3`, or `regions, round 3, 2` for the second version of a round.
    """
    times = [count for name in known for round_, count in [version_order(name)] if round_ == number]
    name = f"regions, {version_name(number)}"
    return f"{name}, {max(times) + 1}" if times else name


def version_order(name: str) -> tuple[int, int]:
    """Return the round of a version that was written back and its count in that round; (-1, 0) for any other."""
    match = _VERSION.fullmatch(name)
    return (int(match.group(1)), int(match.group(2) or 1)) if match else (-1, 0)


def is_ours(model_version: object) -> bool:
    """Return whether a prediction was written back by us, and is not a detector's."""
    return isinstance(model_version, str) and model_version.startswith("regions, round ")
