"""What a person gets from a built-in data set, and from a folder of their own."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everylabel.scripts.replay import datasets
from everylabel.scripts.replay.datasets import DatasetError


def write_image(path: Path, shade: int = 128) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 12), (shade, shade, shade)).save(path)
    return path


def test_digits_are_all_there_as_image_files_of_a_useful_size(tmp_path):
    data = datasets.load("digits", tmp_path)
    assert len(data) == 1797
    assert data.classes == tuple("0123456789")
    assert data.labels is not None
    assert len(data.labels) == 1797
    assert set(data.labels) == set(data.classes)
    with Image.open(data.images[0]) as image:
        assert min(image.size) >= 96
    assert "CC BY 4.0" in data.licence


def test_digit_files_show_the_digit_their_label_says(tmp_path):
    data = datasets.load("digits", tmp_path)
    assert data.labels is not None

    def mean_image(label: str) -> np.ndarray:
        paths = [path for path, given in zip(data.images, data.labels, strict=True) if given == label][:40]
        return np.mean([np.asarray(Image.open(path), dtype=float) for path in paths], axis=0)

    zero, one = mean_image("0"), mean_image("1")
    centre = (slice(40, 56), slice(44, 52))
    assert one[centre].mean() > zero[centre].mean() + 50  # a one has ink in the middle, a zero a hole


def test_a_digit_file_does_not_give_its_label_away(tmp_path):
    assert datasets.load("digits", tmp_path).images[0].name == "digit-0001.png"


def test_a_second_load_writes_nothing_and_an_interrupted_one_is_completed(tmp_path):
    first = datasets.load("digits", tmp_path)
    kept, lost = first.images[0], first.images[7]
    before = kept.stat().st_mtime_ns
    lost.unlink()
    second = datasets.load("digits", tmp_path)
    assert second == first
    assert kept.stat().st_mtime_ns == before
    assert lost.exists()


def test_solar_cells_say_how_they_are_licensed(tmp_path):
    pytest.importorskip("elpv_dataset", reason="elpv-dataset is not installed: pip install elpv-dataset")
    data = datasets.load("solar-cells", tmp_path)
    assert len(data) == 2624
    assert data.classes == ("defective", "functional")
    assert all(path.is_file() for path in data.images)
    assert "CC BY-NC-SA 4.0" in data.licence


def test_solar_cells_without_their_package_name_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    sys.path_importer_cache.clear()
    with pytest.raises(DatasetError, match="pip install elpv-dataset"):
        datasets.load("solar-cells", tmp_path)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(DatasetError, match="digits, solar-cells"):
        datasets.load("mnist", tmp_path)


def test_a_folder_is_read_in_the_order_a_person_would_count(tmp_path):
    for number in (10, 2, 1):
        write_image(tmp_path / "crops" / f"crop{number}.png")
    data = datasets.load(tmp_path / "crops", tmp_path / "cache", classes=("cat", "dog"))
    assert [path.name for path in data.images] == ["crop1.png", "crop2.png", "crop10.png"]
    assert data.labels is None
    assert data.classes == ("cat", "dog")


def test_subfolders_named_like_classes_are_the_truth(tmp_path):
    for name in ("cat/1.png", "cat/deep/2.png", "dog/1.png"):
        write_image(tmp_path / "crops" / name)
    data = datasets.load(tmp_path / "crops", tmp_path / "cache")
    assert data.classes == ("cat", "dog")
    assert data.labels == ("cat", "cat", "dog")


def test_classes_that_are_named_win_over_subfolders(tmp_path):
    for name in ("monday/1.png", "tuesday/1.png"):
        write_image(tmp_path / "crops" / name)
    data = datasets.load(tmp_path / "crops", tmp_path / "cache", classes=("cat", "dog"))
    assert data.labels is None
    assert data.classes == ("cat", "dog")


def test_files_that_cannot_be_read_are_reported_and_skipped(tmp_path):
    crops = tmp_path / "crops"
    whole = write_image(crops / "whole.jpg")
    write_image(crops / "another.png")
    (crops / "truncated.jpg").write_bytes(whole.read_bytes()[:300])
    (crops / "notes.txt").write_text("not an image")
    (crops / ".hidden").write_text("nobody asks for this one")
    data = datasets.load(crops, tmp_path / "cache", classes=("a", "b"))
    assert [path.name for path in data.images] == ["another.png", "whole.jpg"]
    assert {skip.path.name for skip in data.skipped} == {"truncated.jpg", "notes.txt"}
    assert all(skip.reason for skip in data.skipped)


def test_an_image_far_too_large_for_a_crop_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    write_image(tmp_path / "crops" / "1.png")
    write_image(tmp_path / "crops" / "2.png")
    Image.new("L", (40, 40)).save(tmp_path / "crops" / "huge.png")
    data = datasets.load(tmp_path / "crops", tmp_path / "cache", classes=("a", "b"))
    assert [skip.path.name for skip in data.skipped] == ["huge.png"]


def test_an_image_no_browser_shows_is_converted_without_losing_its_range(tmp_path):
    crops = tmp_path / "crops"
    crops.mkdir()
    ramp = np.linspace(1000, 5000, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(crops / "thermal.tif")
    write_image(crops / "plain.png")
    data = datasets.load(crops, tmp_path / "cache", classes=("a", "b"))
    shown = data.images[1]
    assert shown.suffix == ".png"
    assert shown.is_relative_to(tmp_path / "cache")
    with Image.open(shown) as image:
        assert image.mode == "L"
        assert image.getextrema() == (0, 255)
    assert not any(crops.glob("*.png.partial"))


@pytest.mark.parametrize(
    ("files", "classes", "message"),
    [
        ([], ("a", "b"), "holds no image"),
        (["1.png"], ("a", "b"), "one image only"),
        (["1.png", "2.png"], (), "--classes a,b"),
        (["1.png", "2.png"], ("a",), "--classes a,b"),
        (["1.png", "2.png"], ("a", "a"), "distinct"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(tmp_path, files, classes, message):
    (tmp_path / "crops").mkdir()
    for name in files:
        write_image(tmp_path / "crops" / name)
    with pytest.raises(DatasetError, match=message):
        datasets.load(tmp_path / "crops", tmp_path / "cache", classes=classes)


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(DatasetError, match="is not a folder"):
        datasets.load(tmp_path / "nowhere", tmp_path / "cache", classes=("a", "b"))
