"""A label of a page as an annotation of Label Studio: how it is written, found again, and known to be unchanged.

Label Studio 1.20 and later take a `unique_id` with a new annotation and refuse a second one with the same (409), but
never show it. So the region carries an id made of it, which Label Studio keeps and does show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from everylabel.backend.label_studio.label_config import ImageChoices
from everylabel.backend.store import PageLabel

MADE_AT_ONCE_SECONDS = 1.0
"""Label Studio stamps a new annotation's two times within microseconds; whoever edits it takes longer."""


def result_of(label: PageLabel, control: ImageChoices, url: str | None) -> list[dict[str, Any]]:
    """Return the result of a label's annotation.

    Args:
        label: The label.
        control: The labeling config.
        url: The address of its crop; a crop that is a part of its image is drawn there.
    """
    return [
        {**region, "id": mark_of(label), "origin": "manual"} if region["type"] == "choices" else region
        for region in control.result(label.label, url=url)
    ]


def changed_result(label: PageLabel, control: ImageChoices, held: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the result of a person's own annotation with the class of their review; all else in it stays."""
    (chosen,) = [region for region in result_of(label, control, None) if region["type"] == "choices"]
    return [
        {**region, **chosen}
        if region.get("from_name") == control.from_name and region.get("type") == "choices"
        else region
        for region in held["result"]
    ]


def mark_of(label: PageLabel) -> str:
    """Return the id of the region that picks the class in a label's annotation."""
    return f"page-{label.unique_id.replace('-', '')[:20]}"


def find(label: PageLabel, annotations: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the annotation of a label among those of its task; None if it is not among them."""
    mark = mark_of(label)
    for annotation in annotations:
        result = annotation.get("result")
        regions = result if isinstance(result, list) else []
        if any(isinstance(region, Mapping) and region.get("id") == mark for region in regions):
            return annotation
    return None


def is_unchanged(label: PageLabel, annotation: Mapping[str, Any], control: ImageChoices) -> bool:
    """Return whether nobody has edited a label's annotation since it was written."""
    created, updated = (_time(annotation.get(name)) for name in ("created_at", "updated_at"))
    return (
        picks(label, annotation, control)
        and created is not None
        and updated is not None
        and abs((updated - created).total_seconds()) < MADE_AT_ONCE_SECONDS
    )


def picks(label: PageLabel, annotation: Mapping[str, Any], control: ImageChoices) -> bool:
    """Return whether an annotation holds a label as it was given, be there one class a crop or several by now."""
    return replace(control, multiple=True).choice(annotation.get("result")) == label.label


def annotator_of(annotation: Mapping[str, Any]) -> int | None:
    """Return the user who made an annotation."""
    by = annotation.get("completed_by")
    found = by.get("id") if isinstance(by, Mapping) else by
    return found if isinstance(found, int) else None


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
