"""COCO files for crops that are parts of larger pictures: their boxes and outlines, in pixels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from everylabel.backend.dataset.labelled_crops import LabelledCrop
from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.crop_shapes import Box, Shape


def write_coco(
    path: Path,
    crops: Iterable[tuple[LabelledCrop, Sequence[str]]],
    pictures: Mapping[str, tuple[str, tuple[int, int]]],
    classes: Sequence[str],
) -> None:
    """Write the crops of a split as COCO instances; of several classes on a crop, one instance each.

    Args:
        path: The file.
        crops: The crops of the split, and the classes of each.
        pictures: The file and the size in pixels of each picture, by its address.
        classes: The classes of the labeling config, in its order.
    """
    images: dict[str, int] = {}
    annotations: list[dict[str, Any]] = []
    number = {name: n for n, name in enumerate(classes, start=1)}
    for crop, names in crops:
        address, shape = crop_shapes.split(crop.url or "")
        if shape is None or address not in pictures:
            continue
        image = images.setdefault(address, len(images) + 1)
        outline = _outline(shape, pictures[address][1])
        for name in names:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": number[name],
                    **outline,
                    "iscrowd": 0,
                    "attributes": {
                        "task_id": crop.task_id,
                        "source": crop.source,
                        "suspected": crop.suspected,
                    },
                }
            )
    found = {
        "images": [
            {"id": id_, "file_name": pictures[address][0], "width": size[0], "height": size[1]}
            for address, id_ in images.items()
            for size in (pictures[address][1],)
        ],
        "annotations": annotations,
        "categories": [{"id": id_, "name": name} for name, id_ in number.items()],
    }
    path.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


def pictures_in(path: Path) -> list[str]:
    """Return the files of the pictures that `write_coco` has listed; none where there is no such list."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [str(image["file_name"]) for image in found["images"]]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _outline(shape: Shape, size: tuple[int, int]) -> dict[str, Any]:
    """Return the box, the outline and the area of a shape in pixels of its picture."""
    points = (
        shape.corners(size)
        if isinstance(shape, Box)
        else tuple((x / 100 * size[0], y / 100 * size[1]) for x, y in shape.points)
    )
    across, down = [x for x, _ in points], [y for _, y in points]
    left, top = min(across), min(down)
    following = [*points[1:], points[0]]
    twice = sum(x * v - u * y for (x, y), (u, v) in zip(points, following, strict=True))
    return {
        "bbox": [round(value, 2) for value in (left, top, max(across) - left, max(down) - top)],
        "segmentation": [[round(value, 2) for point in points for value in point]],
        "area": round(abs(twice) / 2, 2),
    }
