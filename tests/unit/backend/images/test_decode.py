"""Large JPEG files are decoded at a part of their size where that is enough, and nowhere else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from everylabel.backend.images import cut as cutting
from everylabel.backend.images.decode import decode
from everylabel.backend.images.decoding_limits import ImageLimits
from everylabel.backend.images.errors import ImageTooLargeError
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.crop_shapes import Box
from everylabel.model import encoders
from tests.stand_in_label_studio import data_uri


def photograph(width: int, height: int) -> Image.Image:
    """Shapes of many sizes."""
    rng = np.random.default_rng(0)
    total = np.zeros((height, width, 3))
    for cells in (3, 8, 20, 50, 120):
        grid = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += (np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) - 127.5) / cells**0.5
    return Image.fromarray(np.clip(total + 127.5, 0, 255).astype(np.uint8))


def stored(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize(
    ("width", "enough", "found"),
    [(1200, 320, 600), (1290, 320, 323), (640, 320, 320), (600, 320, 600), (90, 320, 90)],
)
def test_a_jpeg_is_decoded_at_the_smallest_part_that_is_enough(width, enough, found):
    content = stored(photograph(width, width // 2))
    decoded = decode(content, ImageLimits(), enough=enough)
    assert decoded.width == found
    assert decoded.width >= min(width, enough)
    assert decode(content, ImageLimits()).width == width


def test_other_formats_are_decoded_whole():
    assert decode(stored(photograph(1200, 600), "PNG"), ImageLimits(), enough=320).width == 1200


def test_a_photograph_on_its_side_is_upright_at_a_part_of_its_size_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode(stored(photograph(1280, 640), exif=exif), ImageLimits(), enough=320)
    assert decoded.size == (160, 320)


def test_the_limit_is_that_of_the_whole_picture():
    with pytest.raises(ImageTooLargeError):
        decode(stored(photograph(1200, 600)), ImageLimits(max_pixels=500_000), enough=320)


def test_a_box_is_cut_out_of_every_pixel():
    uri = data_uri(stored(photograph(1200, 600))).replace("image/png", "image/jpeg")
    reader = ImageReader("http://localhost:1")
    whole, box = reader.read(uri, 1), Box(12.3, 40, 30, 30)
    found = reader.read(crop_shapes.address(uri, box), 1, enough=100)
    assert found.size == (360, 180)
    assert (np.asarray(found) == np.asarray(cutting.cut(whole, box))).all()
    assert reader.read(uri, 1, enough=100).width == 150
    reader.close()


def test_an_embedding_hardly_feels_it():
    """Against the same photograph saved again, one step of quality lower: a change nobody would see."""
    encoder = encoders.create("efficientnet-lite0", device="cpu")
    original = photograph(1400, 1000)
    content = stored(original, quality=92)
    pictures = [
        decode(content, ImageLimits()),
        decode(content, ImageLimits(), enough=encoder.enough_pixels),
        decode(stored(original, quality=75), ImageLimits()),
    ]
    assert pictures[1].width == 350
    whole, part, worse = encoder.encode(np.stack([encoder.prepare(p) for p in pictures])).astype(float)
    change = np.linalg.norm(part - whole)
    assert change < 0.03 * np.linalg.norm(whole)
    assert change < 1.5 * np.linalg.norm(worse - whole)
