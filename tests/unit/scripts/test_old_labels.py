"""Labels of an earlier project: what a table says, and which tasks it means."""

from __future__ import annotations

import pytest

from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.scripts import old_labels
from everylabel.scripts.old_labels import OldLabelsError, bring_in, match, read_labels
from tests import stand_in_label_studio

CONTROL = label_config.parse(stand_in_label_studio.label_config("cat", "dog"))
NAMES = {1: "a/1.png", 2: "a/2.png", 3: "b/2.png", 4: "c.png", 5: ""}


def no_progress(what, done, total):
    """Show nothing."""


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "old.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


@pytest.fixture
def client(stand_in):
    stand_in.add_project(1, stand_in_label_studio.label_config("cat", "dog"))
    stand_in.add_tasks(1, *(f"/data/upload/1/0a1b2c3d-{name}.png" for name in "abcd"))
    return LabelStudio(stand_in.url, stand_in.token)


def annotations(stand_in):
    return {id_: task["annotations"] for id_, task in stand_in.tasks.items()}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("header", ["file_name,label", "Class,IMAGE", "note,path,choice"])
def test_a_table_is_read_as_people_write_it(table, separator, encoding, header):
    values = {"file_name": "a/1.png", "path": "a\\1.png", "image": "./a/1.png", "note": "x"}
    line = ",".join(values.get(name.lower(), "cat") for name in header.split(","))
    text = f"{header}\r\n{line}\r\n".replace(",", separator)
    assert read_labels(table(text, encoding)).by_name == {"a/1.png": "cat"}


def test_lines_that_say_nothing_or_contradict_are_left_out_and_counted(table):
    found = read_labels(table("file,label\na,cat\nb,\n,dog\nc,cat\nc,dog\na,cat\n"))
    assert found.by_name == {"a": "cat"}
    assert found.left_out == {"the line is incomplete": 2, "another line gives its crop another label": 1}


def test_of_a_data_set_of_ours_only_what_people_said_is_taken(table):
    text = "task_id,file_name,label,source\n1,a,cat,person\n2,b,cat,pseudo-label\n3,c,dog,accepted\n"
    found = read_labels(table(text))
    assert found.by_name == {"a": "cat"}, "tasks of another project have other numbers"
    assert found.left_out == {"no person gave the label": 2}


def test_tasks_are_taken_where_the_table_names_no_file(table):
    found = read_labels(table("task,label\n2,cat\n9,dog\nx,dog\n"))
    assert match(found, NAMES) == {2: "cat"}
    assert found.left_out == {"the line is incomplete": 1, "the project has no such task": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs a header"),
        ("file\na\n", "needs a header with a column `label`, `class` or `choice`"),
        ("label\na\n", "and one `file_name`, `filename`, `file`, `image`, `path` or `name`"),
        ("file,box,class,confidence,novelty\na,,cat,0.9,0.1\n", "predictions of a model"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(table, text, said):
    with pytest.raises(OldLabelsError, match=said):
        read_labels(table(text))
    with pytest.raises(OldLabelsError, match="as text, in UTF-8"):
        read_labels(table("file,label\né,cat\n", "utf-16"))


def test_a_whole_name_is_better_than_the_last_part_and_a_doubtful_one_is_none(table):
    found = read_labels(table("file,label\n1.png,cat\nb/2.png,dog\n2.png,cat\nx/c.png,dog\nnone.png,cat\n"))
    assert match(found, NAMES) == {1: "cat", 3: "dog", 4: "dog"}
    assert found.left_out == {"several tasks have this file": 1, "no task has this file": 1}


def test_files_of_one_name_in_several_folders_are_told_apart_or_left_out(table):
    found = read_labels(table("file,label\nx/c.png,cat\ny/c.png,dog\nz/c.png,cat\n"))
    assert match(found, {4: "c.png"}) == {}
    assert found.left_out == {"another line gives its crop another label": 3}
    found = read_labels(table("file,label\nx/c.png,cat\nc.png,dog\n"))
    assert match(found, {4: "c.png"}) == {4: "dog"}, "the whole name"
    assert found.left_out == {"no task has this file": 1}


def test_a_name_may_hold_what_ends_a_line_elsewhere(table):
    found = read_labels(table('file,label\n"a\nb.png",cat\nc\u2028d.png,dog\n'))
    assert found.by_name == {"a\nb.png": "cat", "c\u2028d.png": "dog"}


def test_labels_become_annotations_once_and_no_one_else_s_is_touched(stand_in, client, table):
    stand_in.annotate(2, "dog")
    text = "file,label\na.png,cat\nb.png,cat\nc.png,dog\nz.png,dog\n"
    for written, labelled in ((2, 1), (0, 3)):
        found = read_labels(table(text))
        assert bring_in(client, 1, found, CONTROL, no_progress) == written
        assert found.left_out == {"no task has this file": 1, "its task is labelled already": labelled}
        given = {
            task: [CONTROL.choice(one["result"]) for one in all_]
            for task, all_ in annotations(stand_in).items()
        }
        assert given == {1: ["cat"], 2: ["dog"], 3: ["dog"], 4: []}
        assert client.model_versions(1) == {}, "what they were made of is gone"


def test_a_run_that_was_killed_is_taken_up(stand_in, client, table, monkeypatch):
    monkeypatch.setattr(old_labels, "CHUNK", 1)

    def kill(what, done, total):
        if (what, done) == ("Bringing in labels", 2):
            raise KeyboardInterrupt

    text = "file,label\na.png,cat\nb.png,cat\nc.png,dog\n"
    with pytest.raises(KeyboardInterrupt):
        bring_in(client, 1, read_labels(table(text)), CONTROL, kill)
    assert client.model_versions(1)
    assert bring_in(client, 1, read_labels(table(text)), CONTROL, no_progress) == 1
    assert [len(all_) for all_ in annotations(stand_in).values()] == [1, 1, 1, 0]
    assert client.model_versions(1) == {}


def test_nothing_is_written_where_a_class_is_unknown_or_nothing_fits(stand_in, client, table):
    with pytest.raises(OldLabelsError, match=r"no class 'horse'; it has 'cat', 'dog'"):
        bring_in(client, 1, read_labels(table("file,label\na.png,cat\nb.png,horse\n")), CONTROL, no_progress)
    with pytest.raises(
        OldLabelsError, match=r"The table names 'q.png'; the project's files are 'a.png', 'b.png'"
    ):
        bring_in(client, 1, read_labels(table("file,label\nq.png,cat\n")), CONTROL, no_progress)
    assert not any(annotations(stand_in).values())
