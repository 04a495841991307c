"""Turned rectangles and polygons as crops, on a real Label Studio."""

import base64
import io
import json

from PIL import Image, ImageChops

from everylabel.backend.regions.region_projects import put_back, spread_out
from tests.label_studio.test_kinds_of_crops import CELL, imported, label_at_once

TURNED = """
<View>
  <Image name="photo" value="$sheet"/>
  <RectangleLabels name="rect" toName="photo"><Label value="digit"/></RectangleLabels>
  <PolygonLabels name="poly" toName="photo"><Label value="digit"/></PolygonLabels>
  <Choices name="kind" toName="photo" perRegion="true"><Choice value="0"/><Choice value="1"/></Choices>
</View>
"""


def test_turned_rectangles_and_polygons_are_crops_that_label_studio_draws(
    label_studio, everylabel_backend, digits
):
    """Six digits on a sheet, each upside down in a box that is turned with it, and six within a polygon."""
    services = everylabel_backend.services
    few = [i for i, label in enumerate(digits.labels) if label in "01"][:12]
    sheet = Image.new("RGB", (6 * CELL, 2 * CELL), "gray")
    drawings, places = [], []
    for place, i in enumerate(few):
        cell = Image.open(digits.images[i]).convert("RGB").resize((CELL, CELL))
        x, y, turned = place % 6 * CELL, place // 6 * CELL, place < 6
        sheet.paste(cell.rotate(180) if turned else cell, (x, y))
        left, top, right, bottom = (
            x / sheet.width,
            y / sheet.height,
            (x + CELL) / sheet.width,
            (y + CELL) / sheet.height,
        )
        if turned:
            value = {"x": 100 * right, "y": 100 * bottom, "width": 100 / 6, "height": 50, "rotation": 180}
            kind = "rectanglelabels"
        else:
            corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
            value = {"points": [[100 * a, 100 * b] for a, b in corners], "closed": True}
            kind = "polygonlabels"
        names = {"id": f"r{place}", "from_name": kind[:4], "to_name": "photo", "type": kind}
        size = {"original_width": sheet.width, "original_height": sheet.height}
        drawings.append({**names, **size, "value": {**value, kind: ["digit"]}})
        places.append(cell)
    content = io.BytesIO()
    sheet.save(content, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
    source = label_studio.create_project("turned regions and polygons", TURNED)
    detected = {"model_version": "detector", "result": drawings}
    imported(label_studio, source, [{"data": {"sheet": uri}, "predictions": [detected]}])
    to, new, left_out = spread_out(services, source, None)
    assert (new, left_out) == (12, 0)
    latest = everylabel_backend.connect(to)
    assert services.store.count_tasks(to) == {"embedded": 12, "missing": 0, "unreadable": 0}
    crops = {task["data"]["region"]: task["id"] for task in label_studio.tasks(to, fields="task_only")}
    for place, cell in enumerate(places):
        (task,) = services.store.tasks(to, [crops[f"r{place}"]])
        seen = services.reader.read(task.image_url, task.id)
        assert seen.size == cell.size
        assert max(high for _, high in ImageChops.difference(seen, cell).getextrema()) <= 1
    drawn = {
        task: prediction["result"][0]
        for task, prediction in label_studio.predictions(to, latest.model_version).items()
    }
    for region in drawings:
        if crops[region["id"]] in drawn:
            shown = drawn[crops[region["id"]]]
            assert shown["type"] + "labels" == region["type"]
            wanted = {key: value for key, value in region["value"].items() if key != region["type"]}
            assert json.loads(json.dumps(shown["value"]), parse_float=round_) == json.loads(
                json.dumps(wanted), parse_float=round_
            )
    assert {region["type"] for region in drawn.values()} == {"rectangle", "polygon"}

    names = {"from_name": "kind", "to_name": "image", "type": "choices"}
    truth = {f"r{place}": digits.labels[i] for place, i in enumerate(few)}
    label_at_once(
        everylabel_backend,
        to,
        {crops[id_]: [{**names, "value": {"choices": [label]}}] for id_, label in truth.items()},
    )
    assert put_back(services, source, to, min_confidence=0.9) == (12, 1)
    version = label_studio.api("GET", f"/api/projects/{source}/")["model_version"]
    (written,) = label_studio.predictions(source, version).values()
    given = {r["id"]: r["value"]["choices"] for r in written["result"] if r["type"] == "choices"}
    assert given == {id_: [label] for id_, label in truth.items()}
    assert [r["value"] for r in written["result"] if r["type"] != "choices"] == [d["value"] for d in drawings]


def round_(number):
    return round(float(number), 3)
