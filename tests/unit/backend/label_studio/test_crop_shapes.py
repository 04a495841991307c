"""Boxes that are turned, and polygons: from the task's data to the pixels Label Studio shows within them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from everylabel.backend.images import cut as cutting
from everylabel.backend.images.errors import NotAnImageError
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.crop_shapes import Box, Polygon
from everylabel.backend.label_studio.label_config import parse
from tests.stand_in_label_studio import data_uri
from tests.unit.backend.label_studio.test_crop_boxes import DATA, PERCENT, RECTANGLE, config, picture

TURNED = f'{PERCENT} cropRotation="$turned"'
OUTLINED = 'cropPoints="$points" cropUnit="percent"'
POLYGON = '<Polygon name="outline" toName="photo"/>'


def test_a_turned_box_goes_along_with_the_address_and_is_drawn_as_turned():
    control = parse(config(TURNED))
    url = control.crop({**DATA, "turned": -315.00001}).url
    assert url == "/data/upload/1/a.jpg#xywh=percent:10,20,30,40&turned=45"
    assert crop_shapes.split(url) == ("/data/upload/1/a.jpg", Box(10, 20, 30, 40, 45))
    (drawn,) = control.result(None, url=url)
    assert drawn["value"] == {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 45}
    assert control.crop({**DATA, "turned": 360}).url == parse(config()).crop(DATA).url
    assert "'turned' must be a number" in control.crop(DATA).problem


def test_a_polygon_goes_along_with_the_address_and_is_drawn():
    control = parse(config(OUTLINED, POLYGON))
    points = [[10, 20], [40.25, 20], [25, 100.3]]
    crop = control.crop({"photo": "a.jpg", "points": points})
    assert crop.url == "a.jpg#polygon=percent:10,20,40.25,20,25,100"
    assert crop_shapes.split(crop.url) == ("a.jpg", Polygon(((10, 20), (40.25, 20), (25, 100))))
    (drawn,) = control.result(None, url=crop.url)
    assert (drawn["from_name"], drawn["type"]) == ("outline", "polygon")
    assert drawn["value"] == {"points": [[10, 20], [40.25, 20], [25, 100]], "closed": True}


def test_boxes_and_polygons_may_be_mixed():
    control = parse(config(f'{TURNED} cropPoints="$points"', RECTANGLE + POLYGON))
    box = control.crop({**DATA, "turned": 0, "points": []})
    polygon = control.crop({**DATA, "turned": 0, "points": [[1, 1], [9, 1], [9, 9]]})
    assert [control.result(None, url=crop.url)[0]["type"] for crop in (box, polygon)] == [
        "rectangle",
        "polygon",
    ]


def test_a_polygon_in_pixels_is_told_in_percent():
    data = {"photo": "a.jpg", "points": [[20, 20], [80, 20], [80, 60]], "width": 200, "height": 100}
    in_pixels = 'cropPoints="$points" cropUnit="pixels" cropOf="$width $height"'
    assert parse(config(in_pixels, POLYGON)).crop(data).url.endswith("#polygon=percent:10,20,40,20,40,60")


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([[1, 1], [9, 9]], "at least three points and has 2"),
        ([[1, 1], [9, 1], [9, 103]], "from 1 to 103 % down"),
        ([[1, 1], [9, 1], [5, 1]], "width and height are 8 and 0"),
        ([[1, 1], [9, 1], [5, float("nan")]], "in numbers"),
        ([[1, 1], [9, 1], [5, "5"]], "must be a list of points"),
        ("1,1 9,1 5,5", "must be a list of points"),
        (None, "must be a list of points"),
    ],
)
def test_a_polygon_that_is_wrong_says_so(points, told):
    crop = parse(config(OUTLINED, POLYGON)).crop({"photo": "a.jpg", "points": points})
    assert crop.url is None
    assert told in crop.problem


def numbered():
    """A picture of 256 x 200 whose red and green say where each pixel is."""
    across, down = np.meshgrid(np.arange(256), np.arange(200))
    return Image.fromarray(np.stack([across, down, 0 * down], axis=2).astype(np.uint8))


def nearly(pixels, colour):
    """Which pixels have a colour; Pillow rounds down what it puts together from several."""
    return (np.abs(np.asarray(pixels, dtype=int) - colour) <= 1).all(axis=-1)


def test_a_box_turned_by_a_quarter_is_the_picture_turned_back():
    """On a picture of 200 x 100, a box of 30 x 40 % is 60 x 40 pixels, whichever way it is turned."""
    picture = picture_with_a_mark()
    for turned, x, y in ((90, 50, 20), (180, 50, 80), (270, 10, 80)):
        cut = cutting.cut(picture, Box(x, y, 30, 40, turned))
        assert cut.size == (60, 40)
        corner = picture.width * x // 100, picture.height * y // 100
        left = corner[0] - {90: 40, 180: 60, 270: 0}[turned]
        top = corner[1] - {90: 0, 180: 40, 270: 60}[turned]
        across, down = (40, 60) if turned != 180 else (60, 40)
        same = picture.crop((left, top, left + across, top + down)).rotate(turned, expand=True)
        assert nearly(cut, np.asarray(same, dtype=int)).all(), turned


def picture_with_a_mark():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8))


def test_a_turned_box_is_what_label_studio_draws():
    """The documented formula: the corners are those of the upright box, turned in pixels around the upper left one."""
    picture = Image.new("RGB", (200, 100), "white")
    box = Box(40, 10, 30, 20, 30)
    corners = box.corners(picture.size)
    assert corners[0] == (80, 10)
    assert corners[1] == pytest.approx((80 + 60 * 0.8660254, 10 + 60 * 0.5))
    assert corners[3] == pytest.approx((80 - 20 * 0.5, 10 + 20 * 0.8660254))
    ImageDraw.Draw(picture).polygon(corners, fill=(255, 0, 0))
    cut = np.asarray(cutting.cut(picture, box))
    assert cut.shape[:2] == (20, 60)
    assert nearly(cut[3:-3, 3:-3], (255, 0, 0)).all()
    # Five pixels more on each side: there it is white.
    (x, y), (cos, sin) = corners[0], (0.8660254, 0.5)
    x, y = x - 5 * cos + 5 * sin, y - 5 * sin - 5 * cos
    around = np.asarray(cutting.cut(picture, Box(x / 2, y, 35, 30, 30)))
    assert around.shape[:2] == (30, 70)
    assert nearly(around[8:-8, 8:-8], (255, 0, 0)).all()
    for edge in (around[:2], around[-2:], around[:, :2], around[:, -2:]):
        assert nearly(edge, 255).all(), "and no more than that"


def test_what_of_a_turned_box_lies_beyond_the_picture_has_its_mean_colour():
    picture = Image.new("RGB", (100, 100), (200, 100, 50))
    picture.paste((0, 0, 0), (0, 0, 50, 100))
    cut = np.asarray(cutting.cut(picture, Box(96, 0, 14, 14, 45)))
    assert nearly(cut, (200, 100, 50)).any()
    assert nearly(cut, (100, 50, 25)).any()
    assert (nearly(cut, (200, 100, 50)) | nearly(cut, (100, 50, 25))).all()
    with pytest.raises(NotAnImageError, match="not on the picture"):
        cutting.cut(picture, Box(95, 0, 30, 14, 45))


def test_only_what_a_polygon_encloses_counts():
    left = cutting.cut(picture(), Polygon(((10, 20), (40, 20), (10, 60))))
    assert left.size == (60, 40)
    assert left.getpixel((1, 1)) == (255, 0, 0)
    mean = left.getpixel((58, 38))
    assert mean == (255, pytest.approx(255 * 0.88, abs=5), pytest.approx(255 * 0.88, abs=5)), "12 % are red"
    right = cutting.cut(picture(), Polygon(((40, 20), (40, 60), (10, 60))))
    assert left.tobytes() != right.tobytes(), "the box around them is the same"


def test_a_polygon_of_less_than_a_pixel_is_a_pixel():
    cut = cutting.cut(picture(), Polygon(((20, 30), (20.01, 30), (20.01, 30.01))))
    assert cut.getcolors() == [(1, (255, 0, 0))]


def test_a_polygon_on_a_picture_that_a_camera_has_turned_is_where_a_browser_shows_it():
    stored = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter, clockwise
    picture().save(stored, "JPEG", exif=exif, quality=95)
    reader = ImageReader("http://127.0.0.1:1")
    # The red box of (20, 20) to (80, 60) on 200 x 100 is at (40, 20) to (80, 80) on the 100 x 200 people see.
    inside = Polygon(((45, 15), (75, 15), (75, 35), (45, 35)))
    for shape in (inside, Box(45, 15, 30, 20), Box(55, 25, 20, 5, 45)):
        cut = reader.read(crop_shapes.address(data_uri(stored.getvalue()), shape), 1)
        assert np.abs(np.asarray(cut, dtype=int) - (255, 0, 0)).max() < 40, shape
    reader.close()


numbers = st.floats(-1, 101)
sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))
angles = st.floats(-720, 720)


@given(numbers, numbers, numbers, numbers, st.just(0.0) | angles, sizes)
def test_any_box_is_cut_out_or_refused(x, y, width, height, turned, size):
    box = Box(x, y, width, height, crop_shapes.degrees(turned))
    assert 0 <= box.rotation < 360
    if box.problem(size) is None:
        cut = cutting.cut(Image.new("RGB", size), box)
        assert cut.width >= 1
        assert cut.height >= 1
        assert cut.width * cut.height <= 1.5 * (size[0] + 1) * (size[1] + 1)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12), sizes)
def test_any_polygon_is_cut_out_or_refused(points, size):
    polygon = Polygon(tuple(points))
    if polygon.problem() is None:
        cut = cutting.cut(Image.new("RGB", size), polygon)
        assert 1 <= cut.width <= size[0]
        assert 1 <= cut.height <= size[1]


@given(st.floats(0, 100), st.floats(0, 100), st.floats(1, 100), st.floats(1, 100), angles)
def test_every_shape_comes_back_from_its_address(x, y, width, height, turned):
    box = Box(x, y, width, height, crop_shapes.degrees(turned))
    if box.problem() is None:
        assert crop_shapes.split(crop_shapes.address("a.png", box.clipped())) == ("a.png", box.clipped())
    polygon = Polygon(((x, y), (width, height), (x, height)))
    if polygon.problem() is None:
        assert crop_shapes.split(crop_shapes.address("a.png", polygon.clipped())) == (
            "a.png",
            polygon.clipped(),
        )


@given(st.floats(35, 65), st.floats(35, 65), st.floats(5, 20), st.floats(5, 20), angles)
def test_every_pixel_of_a_turned_box_comes_from_where_label_studio_shows_it(x, y, width, height, turned):
    picture = numbered()
    box = Box(x, y, width, height, crop_shapes.degrees(turned))
    assert box.problem(picture.size) is None
    cut = cutting.cut(picture, box)
    corner, right, _, down = map(np.array, box.corners(picture.size))
    across = (np.arange(cut.width) + 0.5)[None, :, None] / cut.width
    along = (np.arange(cut.height) + 0.5)[:, None, None] / cut.height
    expected = corner + across * (right - corner) + along * (down - corner)
    found = np.asarray(cut)[:, :, :2] + 0.5
    assert np.abs(found - expected).max() < 1.1, "Pillow rounds down"


@given(st.integers(0, 8), st.integers(0, 8), st.integers(1, 8), st.integers(1, 8))
def test_a_polygon_that_is_a_box_is_cut_like_the_box(left, top, width, height):
    picture = numbered()
    right, bottom = min(10, left + width) * 10, min(10, top + height) * 10
    left, top = left * 10, top * 10
    polygon = Polygon(((left, top), (right, top), (right, bottom), (left, bottom)))
    box = cutting.cut(picture, Box(left, top, right - left, bottom - top))
    assert cutting.cut(picture, polygon).tobytes() == box.tobytes()


corner = st.tuples(st.floats(0, 50), st.floats(0, 50))


@given(corner, corner, corner)
def test_of_a_triangle_s_box_what_lies_within_it_is_kept_and_nothing_else(a, b, c):
    picture = Image.new("RGB", (200, 200))
    picture.paste((255, 255, 255), (0, 0, 100, 100))
    polygon = Polygon((a, b, c))
    if polygon.problem() is not None:
        return
    kept = np.asarray(cutting.cut(picture, polygon))[:, :, 0] == 255
    left, top, *_ = cutting._pixels(picture, polygon.box)
    across, down = np.meshgrid(np.arange(kept.shape[1]) + left + 0.5, np.arange(kept.shape[0]) + top + 0.5)
    corners = 2 * np.array([a, b, c])
    (x, y), (to_x, to_y) = corners[1] - corners[0], corners[2] - corners[0]
    turn = np.sign(x * to_y - y * to_x)
    inside = np.full(kept.shape, np.inf)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        (x, y), length = end - start, np.linalg.norm(end - start)
        if length > 1e-6:
            inside = np.minimum(inside, turn * (x * (down - start[1]) - y * (across - start[0])) / length)
    assert kept[inside > 1.5].all()
    assert not kept[inside < -1.5].any()
