"""Files of crops as they are fetched for a data set: strangers wrote what is in them, and a picture is opened where it is decoded."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image, TiffImagePlugin

from everylabel.backend.dataset.crop_files import SUFFIXES, fetch_crops
from everylabel.backend.dataset.labelled_crops import LabelledCrop
from everylabel.backend.images.reader import ImageReader
from tests.hostile_images import chunk, tiff_of_strips
from tests.stand_in_label_studio import data_uri

BOX = "#xywh=percent:0,0,50,50"
TURNED = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 274, 3, 1, 6, 0, 0)


def saved(kind, size=(32, 16), **options):
    stored = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(stored, kind, **options)
    return stored.getvalue()


def jpeg(exif):
    plain, block = saved("JPEG"), b"Exif\0\0" + exif
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]


def png(kind, content):
    plain = saved("PNG")
    return plain[:33] + chunk(kind, content) + plain[33:]


def crop(task, address):
    return LabelledCrop(task, "a", "person", url=address)


@pytest.fixture
def fetch(tmp_path):
    """Fetches files, each whole, or a part of each; gives what was fetched."""

    def run(*files, box=""):
        crops = [crop(task, data_uri(file) + box) for task, file in enumerate(files, 1)]
        return fetch_crops(ImageReader("http://127.0.0.1:9"), crops, tmp_path / "fetched", 2)

    return run


@pytest.mark.parametrize("box", ["", BOX])
def test_damaged_metadata_of_one_picture_does_not_end_the_export(fetch, box):
    odd = [
        jpeg(b"no TIFF at all"),
        jpeg(b"II*\0"),
        png(b"eXIf", b"odd"),
        png(b"zTXt", b"Raw profile type exif\0\0" + b"x\x9c\x03\0\0\0\0\1"),
        png(b"tEXt", b"Raw profile type exif\0\nexif\n 4\nzz"),
        saved("WEBP", exif=b"Exif\0\0odd"),
    ]
    found = fetch(saved("PNG"), *odd, box=box)
    assert found.problems == {}
    assert found.crops.keys() == {*range(1, len(odd) + 2)}
    for path in found.crops.values():
        with Image.open(path) as picture:
            assert picture.size == ((16, 8) if box else (32, 16))


@pytest.mark.parametrize("box", ["", BOX])
def test_what_may_cost_far_more_than_its_bytes_is_opened_by_no_process_but_the_one_that_decodes(
    fetch, monkeypatch, box
):
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "_open", lambda _: pytest.fail("opened here"))
    found = fetch(tiff_of_strips(100), box=box)
    assert (found.problems, [*found.crops]) == ({}, [1])


@pytest.mark.parametrize("kind", [kind for kind in SUFFIXES if kind in Image.OPEN])
def test_a_whole_picture_is_kept_as_the_file_it_is(fetch, kind):
    file = saved(kind)
    found = fetch(file).crops[1]
    assert found.read_bytes() == file
    assert found.suffix in SUFFIXES[kind]


@pytest.mark.parametrize(
    "file",
    [
        saved("JPEG", exif=b"Exif\0\0" + TURNED),
        saved("TIFF", exif=TURNED),
        png(b"eXIf", TURNED),
        saved("PNG")[:-12] + chunk(b"eXIf", TURNED) + chunk(b"IEND", b""),
        saved("WEBP", exif=b"Exif\0\0" + TURNED),
    ],
    ids=["JPEG", "TIFF", "PNG", "PNG, after the pixels", "WebP"],
)
def test_a_picture_that_crops_are_cut_out_of_is_kept_upright(fetch, file):
    [whole] = fetch(file, box=BOX).pictures.values()
    assert whole.suffix == ".png"
    with Image.open(whole) as picture:
        assert picture.size == (16, 32)
        assert picture.getexif().get(274) is None


def test_an_upright_photograph_that_crops_are_cut_out_of_stays_the_file_it_is(fetch):
    file = saved("JPEG")
    [whole] = fetch(file, box=BOX).pictures.values()
    assert whole.read_bytes() == file
