"""A crop that is a part of a larger picture: from the task's data to the pixels."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from everylabel.backend.images import cut as cutting
from everylabel.backend.images.errors import NotAnImageError
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.crop_shapes import Box
from everylabel.backend.label_studio.label_config import LabelConfigError, parse
from everylabel.backend.store import Task
from tests.stand_in_label_studio import data_uri

RECTANGLE = '<Rectangle name="box" toName="photo"/>'
CHOICES = '<Choices name="kind" toName="photo"><Choice value="cat"/><Choice value="dog"/></Choices>'
PERCENT = 'crop="$x $y $w $h" cropUnit="percent"'
PIXELS = 'crop="$x,$y,$w,$h" cropUnit="pixels" cropOf="$width $height"'
DATA = {"photo": "/data/upload/1/a.jpg", "x": 10, "y": 20, "w": 30, "h": 40}


def config(attributes=PERCENT, rectangle=RECTANGLE):
    return f'<View><Image name="photo" value="$photo" {attributes}/>{rectangle}{CHOICES}</View>'


def picture():
    """A white picture of 200 x 100 with a red box from (20, 20) to (80, 60)."""
    made = Image.new("RGB", (200, 100), "white")
    made.paste((255, 0, 0), (20, 20, 80, 60))
    return made


def test_a_box_in_percent_goes_along_with_the_address():
    crop = parse(config()).crop(DATA)
    assert crop.problem is None
    assert crop.url == "/data/upload/1/a.jpg#xywh=percent:10,20,30,40"
    assert crop_shapes.split(crop.url) == ("/data/upload/1/a.jpg", Box(10, 20, 30, 40))


def test_a_box_in_pixels_is_told_in_percent_of_the_size_the_data_says():
    data = {**DATA, "x": 20, "y": "20", "w": 60.0, "h": 40, "width": 200, "height": 100}
    assert parse(config(PIXELS)).crop(data).url.endswith("#xywh=percent:10,20,30,40")


def test_only_the_box_is_cut_out():
    cut = cutting.cut(picture(), Box(10, 20, 30, 40))
    assert cut.size == (60, 40)
    assert cut.getcolors() == [(2400, (255, 0, 0))]
    assert cutting.cut(picture(), None).size == (200, 100)


def test_reading_an_address_with_a_box_gives_the_box():
    content = io.BytesIO()
    picture().save(content, "PNG")
    reader = ImageReader("http://127.0.0.1:1")
    found = reader.read(crop_shapes.address(data_uri(content.getvalue()), Box(10, 20, 30, 40)), 1)
    reader.close()
    assert found.size == (60, 40)
    assert found.getcolors() == [(2400, (255, 0, 0))]


def test_a_box_of_less_than_a_pixel_is_one_pixel_and_one_beyond_the_edge_ends_there():
    assert cutting.cut(picture(), Box(99.99, 99.99, 0.001, 0.001)).size == (1, 1)
    assert cutting.cut(picture(), Box(90, 0, 10.4, 100)).size == (20, 100)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"w": 0}, "its width and height are 0 and 40"),
        ({"w": -5}, "width and height"),
        ({"x": 90}, "reaches from 90 to 120 % across"),
        ({"y": -3}, "from -3 to 37 % down"),
        ({"x": -0.4, "w": 0.1}, "no part of its 0.1 x 40 % lies on it"),
        ({"y": 100.2, "h": 0.3}, "no part of its 30 x 0.3 % lies on it"),
        ({"x": 100, "w": 0.5}, "no part of its"),
        ({"x": "left"}, "'x' must be a number, not 'left'"),
        ({"h": None}, "'h' must be a number"),
        ({"h": True}, "'h' must be a number"),
        ({"w": float("nan")}, "'w' must be a number"),
        ({"photo": ""}, "its data lacks the text 'photo'"),
    ],
)
def test_a_task_whose_box_is_wrong_says_so_and_has_no_crop(change, told):
    crop = parse(config()).crop({**DATA, **change})
    assert crop.url is None
    assert told in crop.problem


def test_pixels_without_the_pictures_size_say_so():
    assert "'width' must be a number" in parse(config(PIXELS)).crop(DATA).problem
    assert "above 0" in parse(config(PIXELS)).crop({**DATA, "width": 0, "height": 5}).problem


@pytest.mark.parametrize(
    ("attributes", "rectangle", "told"),
    [
        ('crop="$x $y $w $h"', RECTANGLE, 'cropUnit="percent"'),
        ('crop="$x $y $w $h" cropUnit="mm"', RECTANGLE, "not 'mm'"),
        ('crop="$x $y $w $h" cropUnit="pixels"', RECTANGLE, "cropOf="),
        ('crop="$x $y $w" cropUnit="percent"', RECTANGLE, "four task fields"),
        ('crop="10 20 30 40" cropUnit="percent"', RECTANGLE, "four task fields"),
        (PERCENT, "", 'add <Rectangle name="box" toName="photo"/>'),
        (f'{PERCENT} cropPoints="$points"', RECTANGLE, 'add <Polygon name="outline" toName="photo"/>'),
        (f'{PERCENT} cropRotation="30"', RECTANGLE, 'cropRotation="$rotation"'),
        (f'{PERCENT} cropPoints="$a $b"', RECTANGLE, 'cropPoints="$points"'),
        ('cropRotation="$turned" cropUnit="percent"', RECTANGLE, "four task fields"),
    ],
)
def test_a_config_must_say_unit_and_size_and_show_the_box(attributes, rectangle, told):
    with pytest.raises(LabelConfigError) as refused:
        parse(config(attributes, rectangle))
    assert told in str(refused.value)


def test_the_box_is_drawn_where_something_is_pre_filled_and_where_nothing_is():
    control = parse(config())
    url = control.crop(DATA).url
    (drawn,) = control.result(None, url=url)
    assert (drawn["from_name"], drawn["type"]) == ("box", "rectangle")
    assert drawn["value"] == {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}
    again, chosen = control.result("dog", 0.9, url)
    assert again == drawn
    assert chosen["value"] == {"choices": ["dog"]}
    assert control.choice(control.result("dog", 0.9, url)) == "dog"
    assert control.choice([drawn]) is None


def test_a_labelled_rectangle_is_drawn_with_its_label():
    labelled = '<RectangleLabels name="box" toName="photo"><Label value="the crop"/></RectangleLabels>'
    control = parse(config(rectangle=labelled))
    (drawn,) = control.result(None, url=control.crop(DATA).url)
    assert drawn["type"] == "rectanglelabels"
    assert drawn["value"]["rectanglelabels"] == ["the crop"]


def test_an_address_with_no_box_is_left_as_it_is():
    for url in ("a.png", "a.png#frag", "a.png#xywh=percent:1,2,3", "a.png#xywh=percent:1..,2,3,4", ""):
        assert crop_shapes.split(url) == (url, None)


@pytest.mark.parametrize("box", [Box(50, 50, 200, 10), Box(-0.4, 10, 0.1, 10), Box(10, 100.2, 10, 0.3)])
def test_a_box_that_is_not_on_the_picture_is_no_image(box):
    with pytest.raises(NotAnImageError, match="not on the picture"):
        cutting.cut(picture(), box)


def test_each_box_on_a_picture_is_embedded_by_itself_and_the_picture_read_once(services):
    white_and_red = Image.new("RGB", (64, 32), "white")
    white_and_red.paste((255, 0, 0), (32, 0, 64, 32))
    content = io.BytesIO()
    white_and_red.save(content, "PNG")
    uri = data_uri(content.getvalue())
    read: list[str] = []
    reads = services.reader.read
    services.reader.read = lambda url, task_id: read.append(url) or reads(url, task_id)
    services.store.save_project(1, label_config=config())
    boxes = [Box(0, 0, 50, 100), Box(50, 0, 50, 100), Box(50, 0, 50, 100)]
    services.store.save_tasks(1, [Task(i, crop_shapes.address(uri, box)) for i, box in enumerate(boxes, 1)])
    assert services.pool_embedding.embed(1).embedded == 3
    rows = services.embeddings.read(1)
    left, right, again = (rows[task.embedding_row] for task in services.store.tasks(1))
    assert (right == again).all()
    assert not (left == right).all()
    assert read == [uri]
