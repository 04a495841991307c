"""Reads a labeling config: which control takes the class, which classes there are, where the image is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from label_studio_sdk.label_interface import LabelInterface

EXAMPLE = (
    '<View><Image name="image" value="$image"/>'
    '<Choices name="label" toName="image"><Choice value="a"/><Choice value="b"/></Choices></View>'
)


class LabelConfigError(ValueError):
    """The labeling config has no `<Choices>` for an `<Image>`; the message says what to change."""


@dataclass(frozen=True)
class ImageChoices:
    """The part of a labeling config everylabel works with: one `<Choices>` on one `<Image>`."""

    from_name: str
    to_name: str
    image_key: str
    classes: tuple[str, ...]

    def result(self, label: str, confidence: float | None = None) -> list[dict[str, Any]]:
        """A Label Studio `result` that picks one class."""
        region: dict[str, Any] = {
            "from_name": self.from_name,
            "to_name": self.to_name,
            "type": "choices",
            "value": {"choices": [label]},
        }
        if confidence is not None:
            region["score"] = confidence
        return [region]

    def choice(self, result: object) -> str | None:
        """The one class an annotation's `result` picks; None if it is empty, unclear or not a list of regions."""
        if not isinstance(result, Sequence):
            return None
        for region in result:
            if not isinstance(region, Mapping) or region.get("from_name") != self.from_name:
                continue
            value = region.get("value")
            choices = value.get("choices") if isinstance(value, Mapping) else None
            if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], str):
                return choices[0]
        return None

    def image_url(self, data: object) -> str | None:
        """The address of the task's image; None where the task has no such key or no text in it."""
        value = data.get(self.image_key) if isinstance(data, Mapping) else None
        return value if isinstance(value, str) and value else None


@lru_cache(maxsize=256)
def parse(config: str) -> ImageChoices:
    """Find the classification control of a labeling config.

    With several, the first `<Choices>` that belongs to an `<Image>` as a whole counts.

    Raises:
        LabelConfigError: the config cannot be read, or nothing in it classifies an image.
    """
    if not config or not config.strip():
        raise LabelConfigError(
            f"The labeling config is empty. Under Settings, Labeling Interface, use e.g. {EXAMPLE}"
        )
    try:
        interface = LabelInterface(config)
        images = {tag.name: tag for tag in interface.objects if tag.tag.lower() == "image"}
        controls = [tag for tag in interface.controls if tag.tag.lower() == "choices"]
    except Exception as error:
        raise LabelConfigError(f"The labeling config cannot be read: {error}") from error
    if not images:
        raise LabelConfigError(
            f"The labeling config needs an <Image>: everylabel classifies image crops. E.g. {EXAMPLE}"
        )
    reasons = []
    for control in controls:
        image = next((images[name] for name in control.to_name if name in images), None)
        attributes = {key.lower(): value for key, value in control.attr.items()}
        classes = tuple(label for label in control.labels if label)
        if image is None:
            reasons.append(f"<Choices name={control.name!r}> does not point at an <Image>")
        elif attributes.get("perregion", "").lower() == "true":
            reasons.append(f"<Choices name={control.name!r}> is per region, not for the whole crop")
        elif not classes:
            reasons.append(f"<Choices name={control.name!r}> has no <Choice> written in the config")
        elif not (image.value or "").startswith("$"):
            reasons.append(f'<Image name={image.name!r}> takes no task data: give it value="$image"')
        else:
            return ImageChoices(control.name, image.name, image.value[1:], classes)
    why = "; ".join(reasons) or "it has none"
    raise LabelConfigError(
        f"The labeling config needs a <Choices> for its <Image>, but {why}. E.g. {EXAMPLE}"
    )
