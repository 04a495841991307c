"""Pictures are found in folders, lists and tables: each once, in order, and what is no picture is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from everylabel.scripts.predicting.pictures import Picture, PicturesError, find_pictures


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_files_and_lists_are_read_and_nothing_comes_twice(tmp_path: Path) -> None:
    a, b, c = tmp_path / "a.PNG", tmp_path / "sub" / "b.jpeg", tmp_path / "sub" / "c.tif"
    touch(a, b, c, tmp_path / "notes.txt", tmp_path / ".hidden.png", tmp_path / ".cache" / "d.png")
    found = find_pictures([str(tmp_path), str(b), "-"], [f"{c}\n".encode(), b"\n", b"odd\xff.png\r\n"])
    assert [*found.found] == [Picture(str(path)) for path in (a, b, c)] + [Picture("odd\udcff.png")]
    assert found.passed_over == 1


def test_boxes_come_from_a_column_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "boxes.csv"
    table.write_text('Image,bbox,other\na.png,"1, 2, 30, 40",x\na.png,[5 6 7.4 8],x\nb.png,,x\n')
    found = [*find_pictures([str(table)], [], box_column="bbox").found]
    assert [(Path(one.path).name, one.pixels()) for one in found] == [
        ("a.png", (1, 2, 31, 42)),
        ("a.png", (5, 6, 12, 14)),
        ("b.png", None),
    ]
    assert Path(found[0].path).parent == tmp_path
    with pytest.raises(PicturesError, match="x, y, width, height"):
        Picture("a.png", "1 2 3").pixels()
    with pytest.raises(PicturesError, match="'box'"):
        find_pictures([str(table)], [], box_column="box")
    with pytest.raises(PicturesError, match="cannot be read"):
        find_pictures([str(tmp_path / "missing.csv")], [], box_column="bbox")
