"""Regions with a class each: one task a region in a project of their own, and what is learned back into place.

Label Studio serves and locks whole tasks, and a task counts as labelled with its first annotation. So a picture
with twenty regions cannot be asked about one region at a time. A second project can: its tasks are the regions,
as boxes on the same pictures, and it is an active-learning project like any other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from label_studio_sdk.label_interface import LabelInterface

from backend.crop_box import Box
from backend.label_config import RECTANGLES, ImageChoices, LabelConfigError
from backend.publish import version_name
from model import label_set

IMAGE, TASK, REGION = "image", "from_task", "region"
"""Data of a region's task: its picture, and where it came from."""
KEPT = ("id", "from_name", "to_name", "type", "value", "original_width", "original_height", "image_rotation")
"""What of a rectangle goes back."""
_VERSION = re.compile(r"regions, round (\d+)(?:, (\d+))?")
CONFIG = """<View>
  <Image name="image" value="$image" crop="$x $y $width $height" cropUnit="percent" zoom="true"/>
  <Rectangle name="box" toName="image"/>
  <Choices name={name} toName="image" choice={choice} showInline="true">
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
    rectangles: tuple[str, ...]
    """The controls that draw the regions."""

    def config(self) -> str:
        """The labeling config of a project in which every region is a task."""
        return CONFIG.format(
            name=quoteattr(self.from_name),
            choice=quoteattr("multiple" if self.multiple else "single"),
            choices="\n    ".join(f"<Choice value={quoteattr(name)}/>" for name in self.classes),
        )


@dataclass(frozen=True)
class Region:
    """A region of a task, and the class a person has given it."""

    task_id: int
    drawn: Mapping[str, Any]
    """Its rectangle as Label Studio holds it."""
    picture: str
    choices: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The region's id, the same for its rectangle and its class."""
        return str(self.drawn["id"])

    @property
    def box(self) -> Box | None:
        """Where it lies; None where it is turned, or not on the picture."""
        value = self.drawn["value"]
        sides = [value.get(side) for side in ("x", "y", "width", "height")]
        if value.get("rotation") or not all(isinstance(side, (int, float)) for side in sides):
            return None
        box = Box(*sides)
        return None if box.problem() else box.clipped()


def parse(config: str) -> RegionChoices:
    """Find the per-region `<Choices>` of a labeling config and what draws its regions.

    Raises:
        LabelConfigError: there is none, or nothing draws rectangles; the message says what to change.
    """
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
        drawing = [c.name for c in controls if c.tag.lower() in RECTANGLES and image.name in c.to_name]
        classes = tuple(label for label in control.labels if label)
        if drawing and classes and (image.value or "").startswith("$"):
            multiple = about.get("choice", "").lower() == "multiple"
            return RegionChoices(control.name, image.name, image.value[1:], classes, multiple, tuple(drawing))
    raise LabelConfigError(
        'The labeling config needs a <Choices perRegion="true"> with classes and a <Rectangle> or <RectangleLabels>, '
        'both for one <Image value="$...">. Polygons, ellipses, brushes and key points are not read.'
    )


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
            if item.get("from_name") not in control.rectangles or not isinstance(item.get("value"), Mapping):
                continue
            if not item.get("id") or item["id"] in seen:
                continue
            seen.add(item["id"])
            given = chosen.get(item["id"], ()) if people else ()
            yield Region(int(task["id"]), item, picture, given)


def as_task(region: Region, crops: ImageChoices) -> dict[str, Any]:
    """A region as a task of the project of regions; with an annotation where a person has classified it.

    Raises:
        ValueError: the region has no box.
    """
    box = region.box
    if box is None:
        raise ValueError(f"region {region.id} of task {region.task_id} has no upright box on its picture")
    data = {
        IMAGE: region.picture,
        **{side: box.value()[side] for side in ("x", "y", "width", "height")},
        TASK: region.task_id,
        REGION: region.id,
    }
    label = crops.choice([{"from_name": crops.from_name, "value": {"choices": [*region.choices]}}])
    if label is None or not crops.knows(label):
        return {"data": data}
    result = crops.result(label, url=crops.crop(data).url)
    return {"data": data, "annotations": [{"result": result, "ground_truth": False}]}


def prediction(
    task_id: int, found: Mapping[str, tuple[Region, str, float]], control: RegionChoices, version: str
) -> dict[str, Any]:
    """What is known of a task's regions as one prediction: each rectangle again, and its class by the same id.

    Args:
        task_id: the task the regions are of.
        found: by region id: the region, its label, and how sure that is.
        control: how the labeling config calls things.
        version: under which name people see it.
    """
    result: list[dict[str, Any]] = []
    for region, label, confidence in found.values():
        drawn = {key: region.drawn[key] for key in KEPT if key in region.drawn}
        place = {key: value for key, value in drawn["value"].items() if key != "rectanglelabels"}
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
