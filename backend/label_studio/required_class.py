"""Make a labeling config ask for a class: with `required="true"` Label Studio refuses to submit a crop without one.

Without it, Label Studio 1.23.2 saves an annotation with an empty result, says that it was saved, and never serves
the crop again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from xml.sax.saxutils import quoteattr

from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.label_config import LabelConfigError

MESSAGE = "Choose a class, or skip the crop. Esc closes this message."
"""What Label Studio shows somebody who submits a crop without a class; Enter leaves the message where it is."""
ATTRIBUTES = f'required="true" requiredMessage={quoteattr(MESSAGE)}'
"""What stands on the `<Choices>` of a config that asks for a class."""
_SKIPPED_OR_CHOICES = re.compile(
    r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<(?P<tag>choices)(?P<attributes>(?:\s+[\w:.-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*)\s*/?>",
    re.IGNORECASE | re.DOTALL,
)
_ATTRIBUTE = re.compile(r"(?P<name>[\w:.-]+)\s*=\s*(?P<value>\"[^\"]*\"|'[^']*')")


def requires_class(config: str) -> bool:
    """Return whether Label Studio refuses to submit a crop of this labeling config without a class.

    Raises:
        LabelConfigError: nothing in the labeling config is learned.
    """
    learned = label_config.parse(config).from_name
    return any(
        control.name == learned and str(attributes.get("required", "")).lower() == "true"
        for control, attributes in _controls(config)
    )


def with_required_class(config: str) -> str:
    """Return the labeling config with `required="true"` on the `<Choices>` that is learned.

    Only that tag's text changes, so comments and layout elsewhere stay. A message that is there already is kept.

    Raises:
        LabelConfigError: nothing in the config is learned, or the tag was not found in its text; it says what to do.
    """
    if requires_class(config):
        return config
    learned = label_config.parse(config)
    for match in _SKIPPED_OR_CHOICES.finditer(config):
        if match["tag"] is None:
            continue
        values = {
            a["name"].lower(): unescape(a["value"][1:-1]) for a in _ATTRIBUTE.finditer(match["attributes"])
        }
        if values.get("name") != learned.from_name:
            continue
        start, end = match.span("attributes")
        edited = config[:start] + _required(config[start:end]) + config[end:]
        if _is_only_stricter(config, edited):
            return edited
    raise LabelConfigError(
        f"The <Choices name={learned.from_name!r}> was not found in the text of the labeling config. Under Settings, "
        f"Labeling Interface, Code, add to it: {ATTRIBUTES}"
    )


def _required(attributes: str) -> str:
    """Return a tag's attributes with `required="true"` and, where there is none, a message."""
    found = {match["name"].lower(): match for match in _ATTRIBUTE.finditer(attributes)}
    added = "" if "requiredmessage" in found else f" requiredMessage={quoteattr(MESSAGE)}"
    if (old := found.get("required")) is None:
        return f'{attributes} required="true"{added}'
    start, end = old.span("value")
    return f'{attributes[:start]}"true"{attributes[end:]}{added}'


def _is_only_stricter(before: str, after: str) -> bool:
    """Return whether two labeling configs ask the same, except that the second wants a class."""
    if label_config.parse(before) != label_config.parse(after) or not requires_class(after):
        return False
    kept = [
        [
            (control.tag, control.name, {k: v for k, v in attributes.items() if not k.startswith("required")})
            for control, attributes in _controls(config)
        ]
        for config in (before, after)
    ]
    return kept[0] == kept[1]


def _controls(config: str) -> Iterator[tuple[Any, dict[str, str]]]:
    from label_studio_sdk.label_interface import LabelInterface  # noqa: PLC0415 - takes long to load

    for control in LabelInterface(config).controls:
        yield control, {key.lower(): value for key, value in control.attr.items()}
