"""Read a labeling config: the control that takes the class, its classes, and what a crop is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote, unquote

from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.crop_errors import ImageError, one_crop_only
from everylabel.backend.label_studio.crop_fields import CropKeys, Drawing
from everylabel.model import label_set

EXAMPLE = (
    '<View><Image name="image" value="$image"/>'
    '<Choices name="label" toName="image"><Choice value="a"/><Choice value="b"/></Choices></View>'
)
SUPPORTED = (
    'everylabel learns a <Choices> (choice="single" or choice="multiple") for a whole <Image>, for a box on one '
    '(crop="$x $y $width $height" cropUnit="percent" on the <Image>), or for a <Text>'
)
TEXT = "data:text/plain;charset=utf-8,"
MOST_CHARACTERS = 4000
"""How much of a text is kept: more than any sentence encoder reads."""
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
"""A null character, and halves of a surrogate pair: no database takes both."""
RECTANGLES = ("rectangle", "rectanglelabels")
"""Controls that draw a box; their regions are of the same type."""
POLYGONS = ("polygon", "polygonlabels")
"""Controls that draw a polygon; their regions are of the same type."""


class LabelConfigError(ValueError):
    """Nothing in the labeling config is learned; the message says what to change."""


@dataclass(frozen=True)
class Crop:
    """The address of a task's crop, or why there is none."""

    url: str | None
    problem: str | None = None


@dataclass(frozen=True)
class ImageChoices:
    """The part of a labeling config that everylabel works with: one `<Choices>`, and what it is for."""

    from_name: str
    to_name: str
    image_key: str
    classes: tuple[str, ...]
    kind: Literal["image", "text"] = "image"
    multiple: bool = False
    """Several classes may hold; a label is then a set, written as `everylabel.model.label_set` does."""
    part: CropKeys | None = None
    """The part of its picture that a task's crop is; None if it is the whole picture."""

    def result(
        self, label: str | None, confidence: float | None = None, url: str | None = None
    ) -> list[dict[str, Any]]:
        """Return a Label Studio `result` that picks a label.

        Args:
            label: None picks none: nothing is pre-filled, and only the crop's box or polygon is drawn.
            confidence: 0 to 1, stored beside the label.
            url: the crop's address; a crop that is a part of its image is drawn there.
        """
        regions = [] if url is None or self.part is None else self.part.drawn(url, self.to_name)
        if label is None:
            return regions
        # `value` first: Label Studio's tables show the first characters of a result.
        region: dict[str, Any] = {
            "value": {"choices": list(self.names(label))},
            "from_name": self.from_name,
            "to_name": self.to_name,
            "type": "choices",
        }
        if confidence is not None:
            region["score"] = confidence
        return [*regions, region]

    def choice(self, result: object) -> str | None:
        """Return the label that an annotation's `result` picks; None if it is empty, unclear or not a list."""
        if not isinstance(result, Sequence):
            return None
        for region in result:
            if not isinstance(region, Mapping) or region.get("from_name") != self.from_name:
                continue
            value = region.get("value")
            choices = value.get("choices") if isinstance(value, Mapping) else None
            if not isinstance(choices, list) or not all(isinstance(name, str) for name in choices):
                continue
            if len(choices) == 1 or (choices and self.multiple):
                return label_set.join(choices)
        return None

    def names(self, label: str) -> tuple[str, ...]:
        """Return the classes of a label: one, or several for multiple choices."""
        return label_set.split(label) if self.multiple else (label,)

    def knows(self, label: str) -> bool:
        """Return whether every class of a label is in the labeling config."""
        return not self.unknown(label)

    def unknown(self, label: str) -> list[str]:
        """Return the classes of a label that are not in the labeling config."""
        return sorted({*self.names(label)} - {*self.classes})

    def crop(self, data: object) -> Crop:
        """Return the crop of a task's data: the address of its image, of a part of it, or of a text."""
        try:
            with one_crop_only("The task's data"):
                return self._crop(data)
        except ImageError as error:
            return Crop(None, str(error))

    def _crop(self, data: object) -> Crop:
        value = data.get(self.image_key) if isinstance(data, Mapping) else None
        if not isinstance(value, str) or not value.strip():
            return Crop(
                None,
                f"The task has no {self.kind}: its data lacks the text {self.image_key!r} that the labeling "
                "config shows.",
            )
        if self.kind == "text":
            # Half of a surrogate pair, which JSON may hold, is no text.
            return Crop(TEXT + quote(kept_text(value), errors="replace"))
        if (odd := _NOT_TEXT.search(value)) is not None:
            return Crop(
                None,
                f"The address of the task's {self.kind} holds the character U+{ord(odd.group()):04X}, which no address "
                f"has. Correct {self.image_key!r} in its data.",
            )
        if self.part is None or not isinstance(data, Mapping):
            return Crop(value)
        try:
            return Crop(crop_shapes.address(value, self.part.shape(data)))
        except ValueError as error:
            return Crop(None, f"The task has no crop: {error}. Correct its data.")


def kept_text(text: str) -> str:
    """Return the part of a text that is read."""
    return text.strip()[:MOST_CHARACTERS]


def text_of(url: str) -> str | None:
    """Return the text of a text crop's address; None for any other address."""
    return unquote(url.removeprefix(TEXT)) if url.startswith(TEXT) else None


@lru_cache(maxsize=256)
def parse(config: str) -> ImageChoices:
    """Find the classification control of a labeling config.

    With several, the first `<Choices>` that belongs to an `<Image>` counts, or else the first for a `<Text>`.

    Raises:
        LabelConfigError: the config cannot be read, or nothing in it is learned; it says what is.
    """
    if not config or not config.strip():
        raise LabelConfigError(
            f"The labeling config is empty. Under Settings, Labeling Interface, use e.g. {EXAMPLE}"
        )
    from label_studio_sdk.label_interface import LabelInterface  # noqa: PLC0415 - takes long to load

    try:
        interface = LabelInterface(config)
        objects = {tag.name: tag for tag in interface.objects}
        controls = list(interface.controls)
    except Exception as error:
        raise LabelConfigError(f"The labeling config cannot be read: {error}") from error
    if not any(tag.tag.lower() in ("image", "text") for tag in objects.values()):
        raise LabelConfigError(
            f"The labeling config needs an <Image> (or a <Text>) that shows the crop. {SUPPORTED}. E.g. {EXAMPLE}"
        )
    found: list[ImageChoices] = []
    reasons = []
    for control in controls:
        name = f"<{control.tag} name={control.name!r}>"
        if control.tag.lower() != "choices":
            if control.tag.lower() not in RECTANGLES + POLYGONS:
                reasons.append(f"{name} is not learned")
            continue
        target = next((objects[to] for to in control.to_name if to in objects), None)
        try:
            found.append(_choices(control, target, controls))
        except _NotLearnedError as error:
            reasons.append(f"{name} {error}")
    if found:
        return min(
            found, key=lambda choices: choices.kind == "text"
        )  # the first for an image, if there is one
    why = "; ".join(reasons) or "it has none"
    raise LabelConfigError(
        f"The labeling config needs a <Choices> for its <Image> or <Text>, but {why}. {SUPPORTED}. E.g. {EXAMPLE}"
    )


class _NotLearnedError(ValueError):
    """The reason why a `<Choices>` cannot be learned."""


def _choices(control: Any, target: Any, controls: Sequence[Any]) -> ImageChoices:
    attributes = _attributes(control)
    classes = tuple(label for label in control.labels if label)
    kind = "" if target is None else target.tag.lower()
    multiple = attributes.get("choice", "").lower() == "multiple"
    if kind not in ("image", "text"):
        seen = f"points at <{target.tag} name={target.name!r}>" if target is not None else "points at nothing"
        raise _NotLearnedError(f"{seen}: it does not point at an <Image> or a <Text>")
    if attributes.get("perregion", "").lower() == "true":
        raise _NotLearnedError(
            "is per region, not for the whole crop: `everylabel regions` makes a project in which each region is a crop"
        )
    if not classes:
        raise _NotLearnedError("has no <Choice> written in the config")
    if multiple and (odd := [name for name in classes if label_set.SEPARATOR in f" {name} "]):
        raise _NotLearnedError(
            f'has choice="multiple" and a class {odd[0]!r}: sets of classes are written with {label_set.SEPARATOR!r}, '
            "so no class may hold it, begin with '+ ' or end in ' +'"
        )
    if not (target.value or "").startswith("$"):
        raise _NotLearnedError(
            f'is for <{target.tag} name={target.name!r}>, which takes no task data: give it value="${kind}"'
        )
    found = ImageChoices(control.name, target.name, target.value[1:], classes, multiple=multiple)
    about = _attributes(target)
    if kind == "text":
        if about.get("valuetype", "text").lower() == "url":
            raise _NotLearnedError(
                f'is for <Text name={target.name!r} valueType="url">: only text in the task itself is read'
            )
        return replace(found, kind="text")
    return replace(found, part=_crop_keys(about, target.name, controls))


def _crop_keys(about: Mapping[str, str], image: str, controls: Sequence[Any]) -> CropKeys | None:
    """Read `crop`, `cropRotation`, `cropPoints`, `cropUnit` and `cropOf` of an `<Image>`; None where it has no crop."""
    if not {"crop", "croprotation", "croppoints"} & about.keys():
        return None
    box, unit = _keys(about.get("crop", "")), about.get("cropunit", "")
    if len(box) != 4 and ("crop" in about or "croprotation" in about):
        raise _NotLearnedError(
            f'is for an <Image> with crop="{about.get("crop", "")}": it takes four task fields, crop="$x $y $width '
            '$height"'
        )
    if unit not in ("percent", "pixels"):
        raise _NotLearnedError(
            f'is for an <Image> with a crop, whose unit must be said: cropUnit="percent" (of the picture, as Label '
            f'Studio counts) or cropUnit="pixels", not {unit!r}'
        )
    sizes = _keys(about.get("cropof", ""))
    if unit == "pixels" and len(sizes) != 2:
        raise _NotLearnedError(
            'is for an <Image> with a crop in pixels: say how large its picture is, cropOf="$image_width '
            '$image_height", for Label Studio draws in percent'
        )
    rotation, points = (_one_key(about, name) for name in ("cropRotation", "cropPoints"))
    return CropKeys(
        box=box,
        rotation=rotation,
        points=points,
        size=sizes if unit == "pixels" else (),
        box_drawing=_drawing(controls, image, RECTANGLES, '<Rectangle name="box"') if box else None,
        polygon_drawing=_drawing(controls, image, POLYGONS, '<Polygon name="outline"') if points else None,
    )


def _one_key(about: Mapping[str, str], name: str) -> str | None:
    """Return the task field that an attribute names; None without the attribute."""
    if name.lower() not in about:
        return None
    keys = _keys(about[name.lower()])
    if len(keys) != 1:
        raise _NotLearnedError(
            f'is for an <Image> with {name}="{about[name.lower()]}": it takes one task field, such as '
            f'{name}="${name.removeprefix("crop").lower()}"'
        )
    return keys[0]


def _drawing(controls: Sequence[Any], image: str, tags: Sequence[str], tag: str) -> Drawing:
    """Return the control that draws a crop's shape."""
    shows = next((c for c in controls if c.tag.lower() in tags and image in c.to_name), None)
    if shows is None:
        raise _NotLearnedError(
            f"is for an <Image> with a crop, and nothing shows an annotator which part is meant: add {tag} "
            f'toName="{image}"/>'
        )
    kind = shows.tag.lower()
    labels = [label for label in getattr(shows, "labels", None) or [] if label]
    return Drawing(shows.name, kind, labels[0] if labels and kind.endswith("labels") else None)


def _attributes(tag: Any) -> dict[str, str]:
    return {key.lower(): value for key, value in tag.attr.items()}


def _keys(text: str) -> tuple[str, ...]:
    """Return the task fields named in an attribute: `$x $y`, with spaces or commas in between."""
    words = text.replace(",", " ").split()
    return (
        tuple(word[1:] for word in words) if all(len(word) > 1 and word[0] == "$" for word in words) else ()
    )
