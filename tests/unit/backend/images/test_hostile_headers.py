"""What an image says of itself before its pixels: read in few pieces, and without keeping what it points at."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin

from everylabel.backend.images.decode import decode
from everylabel.backend.images.decoding_limits import ImageLimits
from everylabel.backend.images.errors import ImageTooLargeError
from everylabel.model.encoders.rgb import orientation, to_rgb
from tests.hostile_images import (
    chunk,
    exif_that_repeats_itself,
    gif_of_comments,
    jpeg_of_comments,
    png_of_chunks,
)

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def stored(kind, picture=PICTURE, **options):
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def loaded(content):
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


@pytest.mark.parametrize("make", [png_of_chunks, jpeg_of_comments, gif_of_comments])
def test_a_file_of_very_many_pieces_is_refused_and_one_of_a_few_is_read(make):
    assert decode(make(1000), ImageLimits()).size == (32, 32)
    with pytest.raises(ImageTooLargeError, match="small pieces"):
        decode(make(200_000), ImageLimits())


def test_an_honest_large_file_is_read_in_small_pieces():
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    assert decode(stored("GIF", Image.fromarray(noise)), ImageLimits()).size == (1200, 1200)
    png = stored("PNG", Image.fromarray(noise))
    at, length = png.index(b"IDAT"), struct.unpack_from(">I", png, png.index(b"IDAT") - 4)[0]
    pixels = png[at + 4 : at + 4 + length]
    pieces = b"".join(chunk(b"IDAT", pixels[i : i + 2048]) for i in range(0, len(pixels), 2048))
    cut = png[: at - 4] + pieces + png[at + 8 + length :]
    assert np.array_equal(decode(cut, ImageLimits()), noise)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_that_points_at_the_same_bytes_again_and_again_is_not_kept(kind, monkeypatch):
    content = stored(kind, exif=b"Exif\0\0" + exif_that_repeats_itself(4000, 60_000, 6)[:65_000])
    if kind == "JPEG":  # and an index of further pictures, which is read likewise
        index = b"MPF\0" + exif_that_repeats_itself(4000, 50_000, 1)[:60_000]
        content = content[:2] + b"\xff\xe2" + struct.pack(">H", len(index) + 2) + index + content[2:]

    def parsed(self, *_):
        raise AssertionError("Pillow parses it, and keeps what each tag points at")

    monkeypatch.setattr(TiffImagePlugin.ImageFileDirectory_v2, "load", parsed)
    assert decode(content, ImageLimits()).size == (20, 30), "and it is upright"


@pytest.mark.parametrize("told", [None, *range(10)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_the_one_that_pillow_reads(kind, told):
    exif = Image.Exif()
    if told is not None:
        exif[0x0112] = told
    content = stored(kind, exif=exif)
    upright = ImageOps.exif_transpose(loaded(content))
    assert orientation(loaded(content)) == loaded(content).getexif().get(0x0112, 1)
    assert np.array_equal(to_rgb(loaded(content)), upright)
    assert to_rgb(loaded(content), 2).size == (upright.width // 2, upright.height // 2)


def test_an_orientation_beside_exif_is_read_too():
    told = '<x:xmpmeta tiff:Orientation="6"/>'
    text, old = PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", told)
    block = exif_that_repeats_itself(0, 0, 8)
    old.add_text("Raw profile type exif", f"\nexif\n{len(block)}\n{block.hex()}\n")
    for content, number in (
        (stored("JPEG", xmp=told.encode()), 6),
        (stored("PNG", pnginfo=text), 6),
        (stored("PNG", pnginfo=old), 8),
    ):
        assert orientation(loaded(content)) == loaded(content).getexif()[0x0112] == number


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II*\0",
        b"XX*\0\x08\0\0\0",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"II*\0\x08\0\0\0\1\0\x12\1\2\0\1\0\0\0abcd",
        b"II*\0\x08\0\0\0\1\0\x12\1\3\0\xff\xff\xff\x7f\6\0\0\0",
    ],
)
def test_damaged_exif_turns_nothing(block):
    content = stored("PNG")
    assert orientation(loaded(content[:33] + chunk(b"eXIf", block) + content[33:])) == 1
