"""Regions of a larger picture as tasks of their own, and back to the region they came from."""

from __future__ import annotations

import pytest

from backend import crop_box, label_config
from backend.label_config import LabelConfigError
from backend.region_tasks import as_task, parse, prediction, regions
from backend.regions import put_back

CONFIG = (
    '<View><Image name="img" value="$photo"/>'
    '<RectangleLabels name="part" toName="img"><Label value="panel"/></RectangleLabels>'
    '<Choices name="state" toName="img" perRegion="true"><Choice value="fine"/><Choice value="a &quot;bad&quot; one"/>'
    "</Choices></View>"
)
BAD = 'a "bad" one'


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
    assert found["c"].box.x == 12, "the rectangle is the newest"


def test_a_region_s_task_is_a_box_on_the_same_picture_with_the_label_it_has():
    control = parse(CONFIG)
    crops = label_config.parse(control.config())
    assert crops.classes == ("fine", BAD)
    people = {"result": [drawn("c"), chosen("c", BAD), drawn("d", x=50)]}
    labelled, open_one = (as_task(region, crops) for region in regions(task(annotations=[people]), control))
    assert labelled["data"] == {
        **{"image": "/data/upload/1/a.jpg", "x": 10, "y": 20, "width": 30, "height": 40},
        **{"from_task": 7, "region": "c"},
    }
    (given,) = labelled["annotations"]
    assert crops.choice(given["result"]) == BAD
    assert crop_box.split(crops.crop(labelled["data"]).url)[1] == crop_box.Box(10, 20, 30, 40)
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


def test_a_turned_region_and_one_beside_the_picture_have_no_box():
    control = parse(CONFIG)
    odd = {"result": [drawn("t", rotation=30), drawn("o", x=95), drawn("n", x=None)]}
    found = list(regions(task(predictions=[odd]), control))
    assert [region.box for region in found] == [None, None, None]
    with pytest.raises(ValueError, match="no upright box"):
        as_task(found[0], label_config.parse(control.config()))


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
        CONFIG.replace("RectangleLabels", "PolygonLabels"),
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
