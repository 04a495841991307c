"""Regions of a larger picture as tasks of their own, and back to the region they came from."""

from __future__ import annotations

import pytest

from everylabel.backend.label_studio import crop_shapes, label_config
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.regions.region_projects import put_back
from everylabel.backend.regions.region_tasks import as_task, parse, prediction, regions

CONFIG = (
    '<View><Image name="img" value="$photo"/>'
    '<RectangleLabels name="part" toName="img"><Label value="panel"/></RectangleLabels>'
    '<Choices name="state" toName="img" perRegion="true"><Choice value="fine"/><Choice value="a &quot;bad&quot; one"/>'
    "</Choices></View>"
)
BAD = 'a "bad" one'
POLYGONS = '<PolygonLabels name="outline" toName="img"><Label value="panel"/></PolygonLabels>'


def drawn(id_, x=10, rotation=0, **value):
    place = {"x": x, "y": 20, "width": 30, "height": 40, "rotation": rotation, "rectanglelabels": ["panel"]}
    names = {"id": id_, "from_name": "part", "to_name": "img", "type": "rectanglelabels"}
    return {**names, "value": {**place, **value}, "original_width": 400, "original_height": 200}


def chosen(id_, name):
    names = {"id": id_, "from_name": "state", "to_name": "img", "type": "choices"}
    return {**names, "value": {"x": 10, "choices": [name]}}


def task(*, annotations=(), predictions=()):
    data = {"photo": "/data/upload/1/a.jpg"}
    return {"id": 7, "data": data, "annotations": list(annotations), "predictions": list(predictions)}


def test_regions_of_a_detector_are_crops_until_people_have_drawn_their_own():
    control = parse(CONFIG)
    detected = {"model_version": "detector", "result": [drawn("a"), drawn("b", x=50)]}
    assert [r.id for r in regions(task(predictions=[detected]), control)] == ["a", "b"]
    older = {"model_version": "an older detector", "result": [drawn("old")]}
    both = task(predictions=[older, detected])
    assert [r.id for r in regions(both, control)] == ["a", "b"]
    people = {"result": [drawn("c"), chosen("c", BAD)]}
    (region,) = regions(task(annotations=[people], predictions=[detected]), control)
    assert (region.id, region.choices) == ("c", (BAD,))
    skipped = {"was_cancelled": True, "result": [drawn("d")]}
    assert [r.id for r in regions(task(annotations=[skipped], predictions=[detected]), control)] == ["a", "b"]


def test_the_newest_class_given_to_a_region_stays_where_a_newer_annotation_gives_it_none():
    control = parse(CONFIG)
    oldest = {"result": [drawn("c"), chosen("c", "fine"), drawn("d", x=50), chosen("d", "fine")]}
    newer = {"result": [drawn("c", x=11), chosen("c", BAD), drawn("d", x=50)]}
    newest = {"result": [drawn("c", x=12), {**chosen("c", BAD), "value": {"choices": []}}]}
    found = {r.id: r for r in regions(task(annotations=[oldest, newer, newest]), control)}
    assert {id_: region.choices for id_, region in found.items()} == {"c": (BAD,), "d": ("fine",)}
    assert found["c"].shape.x == 12, "the rectangle is the newest"


def test_a_region_s_task_is_a_box_on_the_same_picture_with_the_label_it_has():
    control = parse(CONFIG)
    crops = label_config.parse(control.config())
    assert crops.classes == ("fine", BAD)
    people = {"result": [drawn("c"), chosen("c", BAD), drawn("d", x=50)]}
    labelled, open_one = (as_task(region, crops) for region in regions(task(annotations=[people]), control))
    assert labelled["data"] == {
        **{"image": "/data/upload/1/a.jpg", "x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0},
        **{"from_task": 7, "region": "c"},
    }
    (given,) = labelled["annotations"]
    assert crops.choice(given["result"]) == BAD
    assert crop_shapes.split(crops.crop(labelled["data"]).url)[1] == crop_shapes.Box(10, 20, 30, 40)
    assert "annotations" not in open_one


def test_what_is_learned_goes_back_to_the_region_by_its_id():
    control = parse(CONFIG)
    detected = {"model_version": "detector", "result": [drawn("a"), drawn("b", x=50)]}
    first, second = regions(task(predictions=[detected]), control)
    written = prediction(
        7, {"a": (first, "fine", 0.97), "b": (second, BAD, 1.0)}, control, "regions, round 4"
    )
    assert written["score"] == 0.97
    boxes = [item for item in written["result"] if item["type"] == "rectanglelabels"]
    classes = {i["id"]: i["value"]["choices"] for i in written["result"] if i["type"] == "choices"}
    assert [(box["id"], box["value"]) for box in boxes] == [(r.id, r.drawn["value"]) for r in (first, second)]
    assert classes == {"a": ["fine"], "b": [BAD]}
    only_first = prediction(7, {"a": (first, "fine", 0.97)}, control, "regions, round 5")
    again = task(predictions=[detected, only_first])
    assert [r.id for r in regions(again, control)] == ["a", "b"], "what went back is not taken for a detector"


def test_a_region_beside_the_picture_or_without_numbers_is_no_crop():
    control = parse(CONFIG)
    far = drawn("f", x=95, rotation=30)  # 400 x 200: its upper right corner is at 121 %
    odd = {"result": [drawn("o", x=95), drawn("n", x=None), drawn("r", rotation="30"), far]}
    found = list(regions(task(predictions=[odd]), control))
    assert [region.shape for region in found] == [None] * 4
    with pytest.raises(ValueError, match="cannot be a crop"):
        as_task(found[0], label_config.parse(control.config()))


def outlined(id_, points):
    names = {"id": id_, "from_name": "outline", "to_name": "img", "type": "polygonlabels"}
    value = {"points": points, "closed": True, "polygonlabels": ["panel"]}
    return {**names, "value": value, "original_width": 400, "original_height": 200}


def test_turned_rectangles_and_polygons_are_crops_and_get_their_class_back():
    control = parse(CONFIG.replace("<Choices", POLYGONS + "<Choices"))
    crops = label_config.parse(control.config())
    triangle = [[10, 10], [30, 10], [20, 40.5]]
    drawings = [drawn("t", x=20, rotation=-330), outlined("p", triangle), drawn("u")]
    found = list(regions(task(annotations=[{"result": [*drawings, chosen("p", BAD)]}]), control))
    turned, polygon, upright = (as_task(region, crops) for region in found)
    assert turned["data"]["rotation"] == 30
    assert "points" not in turned["data"]
    assert {key: polygon["data"][key] for key in ("x", "y", "width", "height", "rotation", "points")} == {
        **{"x": 10, "y": 10, "width": 20, "height": 30.5, "rotation": 0},
        "points": triangle,
    }
    shapes = [crop_shapes.split(crops.crop(made["data"]).url)[1] for made in (turned, polygon, upright)]
    assert shapes == [
        crop_shapes.Box(20, 20, 30, 40, 30),
        crop_shapes.Polygon(((10, 10), (30, 10), (20, 40.5))),
        crop_shapes.Box(10, 20, 30, 40),
    ]
    drawing, given = polygon["annotations"][0]["result"]
    assert (drawing["from_name"], drawing["type"]) == ("outline", "polygon")
    assert drawing["value"] == {"points": triangle, "closed": True}
    assert given["value"] == {"choices": [BAD]}

    classes = {region.id: (region, "fine", 1.0) for region in found}
    written = prediction(7, classes, control, "regions, round 1")["result"]
    assert [item["value"] for item in written if item["type"] != "choices"] == [d["value"] for d in drawings]
    given = {item["id"]: item["value"] for item in written if item["type"] == "choices"}
    assert given["p"] == {"points": triangle, "closed": True, "choices": ["fine"]}
    assert given["t"]["rotation"] == -330


def test_a_picture_that_was_turned_on_the_screen_has_its_regions_where_they_are_without():
    """As Label Studio 1.23.2 writes them: in percent of the picture as it is stored."""
    turned = {**drawn("a"), "image_rotation": 90}
    (region,) = regions(task(annotations=[{"result": [turned]}]), parse(CONFIG))
    assert region.shape == crop_shapes.Box(10, 20, 30, 40)


def test_a_project_of_regions_that_has_no_field_for_polygons_takes_none():
    control = parse(CONFIG)
    crops = label_config.parse(control.config())
    assert "Polygon" not in control.config()
    assert crops.part.takes(crop_shapes.Box(1, 1, 5, 5, 30))
    assert not crops.part.takes(crop_shapes.Polygon(((1, 1), (5, 1), (5, 5))))
    older = label_config.parse(control.config().replace(' cropRotation="$rotation"', ""))
    assert not older.part.takes(crop_shapes.Box(1, 1, 5, 5, 30))
    assert older.part.takes(crop_shapes.Box(1, 1, 5, 5))


def test_classes_go_back_beside_those_an_annotator_may_have_open(stand_in, services, digit_crops):
    picture = digit_crops[0][0]
    control = parse(CONFIG)
    stand_in.add_project(1, CONFIG)
    stand_in.add_project(2, control.config())
    (source,) = stand_in.add_tasks(1, picture)
    detected = {"model_version": "detector", "result": [drawn("a")]}
    stand_in.tasks[source] |= {"data": {"photo": picture}, "predictions": [detected]}
    stand_in.predictions.append({**detected, "task": source, "score": 1.0})
    (crop,) = stand_in.add_tasks(2, picture)
    (region,) = regions(stand_in.tasks[source], control)
    stand_in.tasks[crop] |= as_task(region, label_config.parse(control.config()))
    stand_in.annotate(crop, None, result=[chosen("a", BAD)])

    shown = []
    for _ in range(4):
        held = {p["model_version"] for p in stand_in.predictions}
        assert put_back(services, 1, 2, 0.9) == (1, 1)
        shown.append(stand_in.projects[1]["model_version"])
        assert shown[-1] not in held
        assert {p["model_version"] for p in stand_in.predictions} == {"detector", *shown[-2:]}
    assert len({*shown}) == 4, "no name comes twice"
    stand_in.projects[1]["model_version"] = "detector"
    put_back(services, 1, 2, 0.9)
    assert shown[-1] in {p["model_version"] for p in stand_in.predictions}


@pytest.mark.parametrize(
    "config",
    [
        CONFIG.replace(' perRegion="true"', ""),
        CONFIG.replace("RectangleLabels", "EllipseLabels"),
        CONFIG.replace("$photo", "photo.jpg"),
        "",
        "<View>",
    ],
)
def test_a_project_without_classes_of_rectangles_is_told_what_is_needed(config):
    with pytest.raises(LabelConfigError, match=r"perRegion|cannot be read"):
        parse(config)


def test_connecting_a_project_of_regions_points_at_the_command_for_it():
    with pytest.raises(LabelConfigError, match="everylabel regions"):
        label_config.parse(CONFIG)
