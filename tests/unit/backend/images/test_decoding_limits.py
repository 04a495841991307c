"""Pictures made to cost much: what they take is bounded, in sum over all threads and each by itself."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps

from everylabel.backend.images import decode as decode_module
from everylabel.backend.images import decoding_limits
from everylabel.backend.images.decode import decode
from everylabel.backend.images.decoding_limits import MOST_SCANS, ImageLimits, MemoryBudget, decoding_memory
from everylabel.backend.images.errors import ImageTooLargeError
from everylabel.backend.images.reader import ImageReader
from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.page.thumbnails import SIDE, thumbnail
from everylabel.model import encoders
from everylabel.model.encoders import rgb
from everylabel.model.encoders.pixels import letterbox
from everylabel.model.encoders.rgb import to_rgb
from tests.stand_in_label_studio import data_uri
from tests.unit.backend.images.test_decode import photograph, stored


def png_of_one_colour(width, height, mode="RGBA"):
    """A file of a few kilobytes a hundred million pixels, made without holding them."""
    kind, channels = {"L": (0, 1), "RGB": (2, 3), "RGBA": (6, 4)}[mode]
    packer, data = zlib.compressobj(9), []
    row = bytes(1 + width * channels)
    data.extend(packer.compress(row) for _ in range(height))
    data.append(packer.flush())

    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        return len(content).to_bytes(4, "big") + name + content + checksum.to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, kind, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"".join(data)) + chunk(b"IEND", b"")
    )


@pytest.fixture
def budget(monkeypatch):
    """A budget of 10 MB in the place of the process's own."""
    small = MemoryBudget(10_000_000)
    for module in (decoding_limits, decode_module):
        monkeypatch.setattr(module, "decoding_memory", small)
    return small


def test_threads_together_hold_no_more_than_the_budget(budget):
    content = png_of_one_colour(1000, 1000)  # 4 MB decoded, and 4 as RGB
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: decode(content, ImageLimits()), range(24)))
    assert {picture.size for picture in found} == {(1000, 1000)}
    assert 8_000_000 <= budget.most_in_flight <= budget.total
    assert budget.in_flight == 0


def test_one_that_takes_more_than_the_budget_is_decoded_alone(budget):
    large, small = png_of_one_colour(2000, 1000), png_of_one_colour(500, 500)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: decode(large if n % 4 == 0 else small, ImageLimits()), range(24)))
    assert budget.most_in_flight == 16_000_000, "nothing else beside the large one"
    assert budget.in_flight == 0


def test_a_damaged_picture_gives_back_what_it_held(budget):
    content = png_of_one_colour(1000, 1000)
    with pytest.raises(decode_module.NotAnImageError):
        decode(content[: len(content) // 2], ImageLimits())
    assert budget.most_in_flight == 8_000_000
    assert budget.in_flight == 0


def test_a_picture_is_held_until_the_scope_around_it_ends(budget):
    with budget.scope():
        decode(png_of_one_colour(1000, 1000), ImageLimits())
        assert budget.in_flight == 8_000_000
    assert budget.in_flight == 0


def test_who_asked_first_is_next_so_that_a_large_one_is_not_passed_for_ever():
    budget, order = MemoryBudget(10), []
    holding, first_waits = threading.Event(), threading.Event()

    def take(n, name):
        with budget.scope():
            budget.take(n)
            order.append(name)

    def hold():
        with budget.scope():
            budget.take(6)
            holding.set()
            first_waits.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(10)
    large = threading.Thread(target=take, args=(9, "large"))
    large.start()
    while not budget._queue:
        pass
    small = threading.Thread(target=take, args=(2, "small"))
    small.start()
    while len(budget._queue) < 2:
        pass
    first_waits.set()
    for thread in (holder, large, small):
        thread.join(10)
    assert order == ["large", "small"]


def test_a_huge_picture_is_made_small_before_it_is_laid_over_white():
    content = png_of_one_colour(10_000, 10_000)
    assert len(content) < 500_000
    before, decoding_memory.most_in_flight = decoding_memory.most_in_flight, 0
    found = decode(content, ImageLimits(), enough=320)
    assert max(found.size) <= 3 * 320
    assert found.getpixel((5, 5)) == (255, 255, 255)
    assert decoding_memory.most_in_flight == 400_000_000, "its own pixels, and no second picture of that size"
    decoding_memory.most_in_flight = max(before, decoding_memory.most_in_flight)


MEASURE = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from everylabel.backend.images.decode import decode
from everylabel.backend.images.decoding_limits import ImageLimits
content = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(8) as threads:
    list(threads.map(lambda _: decode(content, ImageLimits(), enough=320), range(8)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.extended
@pytest.mark.skipif(sys.platform != "linux", reason="another system counts in other units")
def test_eight_threads_with_eight_huge_pictures_take_the_memory_of_one():
    content = png_of_one_colour(8000, 8000)  # 256 MB each; as RGBA over white at full size, four times that
    done = subprocess.run([sys.executable, "-c", MEASURE], input=content, capture_output=True, check=True)
    assert int(done.stdout) < 700_000, "kilobytes; without the budget about 2,500,000"


def test_what_takes_too_much_memory_is_refused_before_it_is_taken():
    picture = Image.new("CMYK", (4000, 2500), (9, 8, 7, 0))
    content, limits = stored(picture, progressive=True), ImageLimits(max_pixels=10_000_000)
    with pytest.raises(ImageTooLargeError, match="GB of memory"):
        decode(content, limits)
    assert decode(stored(picture), limits).size == picture.size


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "CMYK", "I;16", "F", "1", "RGB"])
@pytest.mark.parametrize("factor", [1, 3])
def test_tiles_make_the_picture_that_is_made_in_one_piece(mode, factor, monkeypatch):
    picture = Image.effect_noise((230, 170), 90)
    if mode == "RGBA":
        picture = Image.merge("RGBA", [picture.rotate(90 * n).resize((230, 170)) for n in range(4)])
    elif mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode)
    whole = to_rgb(picture)
    monkeypatch.setattr(rgb, "TILE_SIDE", 40)
    found = to_rgb(picture, factor)
    assert found.mode == "RGB"
    assert (np.asarray(found) == np.asarray(whole.reduce(factor) if factor > 1 else whole)).all()


def test_a_huge_photograph_on_its_side_is_made_small_and_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = photograph(300, 200)
    lying = Image.open(io.BytesIO(stored(picture, "PNG", exif=exif)))
    upright = np.asarray(ImageOps.exif_transpose(lying).reduce(2), dtype=int)
    assert np.abs(np.asarray(to_rgb(lying, 2), dtype=int) - upright).max() <= 1


def test_a_jpeg_of_thousands_of_scans_is_refused_at_once():
    content = stored(photograph(600, 400), progressive=True)
    assert decode(content, ImageLimits()).size == (600, 400)
    scan = content[content.rindex(b"\xff\xda") : -2]
    bomb = content[:-2] + scan * 3000 + b"\xff\xd9"
    with pytest.raises(ImageTooLargeError, match=r"3,0\d\d scans"):
        decode(bomb, ImageLimits())
    few = content[:-2] + scan * (MOST_SCANS // 2) + b"\xff\xd9"
    with pytest.raises(ImageTooLargeError, match="scans"):
        decode(few, ImageLimits(max_pixels=300_000))


def test_decoding_ends_when_its_time_is_up():
    with pytest.raises(ImageTooLargeError, match="takes longer than"):
        decode(stored(photograph(1200, 900), "PNG"), ImageLimits(decode_seconds=0.0))


@pytest.mark.parametrize("size", [(3_000_000, 1), (1, 3_000_000)])
def test_a_picture_one_pixel_wide_is_prepared_and_drawn_small(size):
    picture = Image.new("RGB", size, (10, 200, 30))
    square = letterbox(picture, 64)
    assert (square == (10, 200, 30)).all(axis=2).sum() == 64
    encoder = encoders.create("efficientnet-lite0", device="cpu")
    assert np.isfinite(encoder.encode(encoder.prepare(picture)[np.newaxis]).astype(float)).all()
    assert Image.open(io.BytesIO(thumbnail(picture))).size == ((SIDE, 1) if size[1] == 1 else (1, SIDE))


def test_a_box_on_a_huge_picture_is_still_cut_out_of_every_pixel():
    reader = ImageReader("http://localhost:1")
    address = crop_shapes.address(
        data_uri(png_of_one_colour(4000, 3000, "RGB")), crop_shapes.Box(10, 10, 25, 50)
    )
    assert reader.read(address, 1, enough=100).size == (1000, 1500)
    reader.close()
