"""The name of a person's own file."""

from __future__ import annotations

import pytest

from everylabel.backend.label_studio.file_names import file_name


@pytest.mark.parametrize(
    ("data", "url", "name"),
    [
        ({"file_name": "cats/1.jpg"}, "/data/upload/7/0a1b2c3d-x.jpg", "cats/1.jpg"),
        ({}, "/data/upload/7/0a1b2c3d-na%C3%AFve.jpg", "naïve.jpg"),
        ({}, "/label-studio/data/upload/7/0a1b2c3d-my-0a1b2c3d-cat.jpg", "my-0a1b2c3d-cat.jpg"),
        ({}, "/data/local-files/?d=photos/a%20b.png", "a b.png"),
        ({}, "s3://bucket/folder/c.png", "c.png"),
        ({}, "https://host/d.png?signature=secret", "d.png"),
        ({}, "https://host/photo.jpg#xywh=percent:1,2,3,4", "photo.jpg"),
        ({}, "data:image/png;base64,aaaa", ""),
        ({"file_name": 7}, "http://[broken", ""),
        ({"file_name": "  "}, None, ""),
        ({"file_name": "half \ud800"}, None, "half ?"),
    ],
)
def test_the_task_says_it_or_else_the_address(data, url, name):
    assert file_name(data, url) == name
