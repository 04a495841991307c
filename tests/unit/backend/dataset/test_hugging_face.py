"""What other readers make of the labels is what people said."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest

from everylabel.backend.dataset.hugging_face import reads_as_written, write_metadata

ROWS = [
    {"path": "test/a/1.png", "label": "a", "task_id": 1, "source": "person", "suspected": False, "round": 3}
]


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "dog"],
        ["0", "1", "10"],
        ["None", "cat"],
        ["NA", "EU"],
        ["true", "false"],
        ["True", "x"],
        ["007", "008"],
        ["1", "two"],
        ["1.5", "2.5"],
        ["inf", "nan"],
        ["a,b", 'say "no"', "two\nlines"],
        [" cat", "null "],
        ["-", "+"],
        ["1_000"],
    ],
)
def test_csv_is_taken_only_where_its_reader_gets_every_label_back(labels):
    quoted = "\n".join('"' + label.replace('"', '""') + '"' for label in labels)
    read = pd.read_csv(io.StringIO("label\n" + quoted))["label"].tolist()
    whole = all(isinstance(label, int) for label in read) and [*map(str, read)] == labels
    if reads_as_written(labels):
        assert whole or read == labels


def test_the_metadata_lies_beside_its_crops_and_keeps_what_csv_would_change(tmp_path):
    folder = tmp_path / "test"
    folder.mkdir()
    write_metadata(folder, ROWS, ["a", "b"])
    assert (folder / "metadata.csv").read_text() == (
        "file_name,label,task_id,source,suspected\na/1.png,a,1,person,False\n"
    )
    (folder / "metadata.csv").unlink()
    write_metadata(folder, ROWS, ["a", "None"])
    assert [path.name for path in folder.iterdir()] == ["metadata.jsonl"]
    (line,) = (folder / "metadata.jsonl").read_text().splitlines()
    assert json.loads(line)["label"] == "a"
