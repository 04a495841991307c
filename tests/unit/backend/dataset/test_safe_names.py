"""Classes and files keep their names as far as every file system takes them, and never meet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everylabel.backend.dataset.safe_names import Taken, safe_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cat", "cat"),
        ("naïve é", "naïve é"),
        ("e\u0301", "é"),
        ("裂纹", "裂纹"),
        ("a/b\\c", "a_b_c"),
        ("..", "__"),
        (".git", "_git"),
        ("end. ", "end_"),
        ("CON", "_CON"),
        ("lpt1.txt", "_lpt1.txt"),
        ("a\nb\0", "a_b_"),
        ("\ud800", "_"),
        ("", "_"),
        ("  ", "_"),
        ("é" * 200, "é" * 60),
    ],
)
def test_a_class_names_its_folder_where_a_file_system_takes_it(text, name):
    assert safe_name(text) == name


@given(st.text(st.characters(), max_size=300))
def test_any_text_makes_a_name_that_stays_in_its_folder(text):
    name = safe_name(text)
    assert 0 < len(name.encode()) <= 121
    assert not {*name} & {*'/\\:*?"<>|\0\n'}
    assert name[0] not in ". "
    assert name[-1] not in ". "


def test_names_that_some_file_system_takes_for_one_are_kept_apart():
    taken = Taken()
    assert [taken.free("", name) for name in ("Cat", "cat", "CAT", "é", "E\u0301")] == [
        "Cat",
        "cat (2)",
        "CAT (3)",
        "é",
        "E\u0301 (2)",
    ]
    assert [taken.free("cat", "1", ".jpg", task) for task in (7, 8)] == ["1.jpg", "1-8.jpg"]
    assert taken.free("cat", "1-8", ".JPG", 9) == "1-8-9.JPG"
    assert taken.free("dog", "1", ".jpg", 10) == "1.jpg"
