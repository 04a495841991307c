"""A data set: who or what said each label, the blind check crops as its test set, and files that are whole or not there."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from everylabel.backend.dataset import export as writing
from everylabel.backend.dataset.comparison import compare
from everylabel.backend.dataset.export import Options, export
from everylabel.backend.dataset.folders import DatasetError, check_folder
from everylabel.backend.dataset.labelled_crops import NothingLabelledError
from everylabel.backend.rounds import bulk_accept, certificates
from tests.stand_in_label_studio import choice, data_uri

TAKEN = 16
"""Crops of the project, all labelled."""


def manifest(folder):
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return {int(row["task_id"]): row for row in csv.DictReader(file)}


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def labelled(stand_in, services, digit_crops):
    """A project of 16 digits under their owner's names, all labelled; the last four are the check set."""
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops[:TAKEN]))
    for n, (task, (_, label)) in enumerate(zip(ids, digit_crops, strict=False)):
        stand_in.tasks[task]["data"]["file_name"] = f"{label}/{n % 3}.png"
        stand_in.annotate(task, label)
    services.loop.sync(1)
    services.store.save_project(1, check_tasks=ids[-4:])
    return dict(zip(ids, (label for _, label in digit_crops), strict=False))


def test_the_test_set_is_the_blind_check_crops_and_nobody_else_s(services, labelled, tmp_path):
    done = export(services, 1, tmp_path / "d", Options("certified", copy=True))
    rows = manifest(tmp_path / "d")
    assert {task for task, row in rows.items() if row["split"] == "test"} == {*[*labelled][-4:]}
    assert {task: row["label"] for task, row in rows.items()} == labelled
    assert {row["source"] for row in rows.values()} == {"person"}
    for row in rows.values():
        split, folder, _ = row["path"].split("/")
        assert (split, folder) == (row["split"], row["label"])
        with Image.open(tmp_path / "d" / row["path"]) as picture:
            assert picture.size == (32, 32)
    assert len({row["path"] for row in rows.values()}) == TAKEN, "files of the same name are kept apart"
    assert done.about["crops"]["test"] == {
        label: [*labelled.values()][-4:].count(label) for label in {*[*labelled.values()][-4:]}
    }
    assert not (tmp_path / ".d.unfinished").exists()
    listed = [
        line.split(",")[0]
        for split in ("train", "test")
        for line in (tmp_path / "d" / split / "metadata.csv").read_text().splitlines()[1:]
    ]
    assert sorted(listed) == sorted(row["path"].split("/", 1)[1] for row in rows.values())
    assert "- split: test\n        path: test/**" in (tmp_path / "d" / "README.md").read_text()


def test_parquet_says_the_same_with_types(services, labelled, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    export(services, 1, tmp_path / "d", Options("people"))
    rows = parquet.read_table(tmp_path / "d" / "labels.parquet").to_pylist()
    said = manifest(tmp_path / "d")
    assert [row["task_id"] for row in rows] == [*said]
    for row in rows:
        assert {
            name: "" if value is None else value
            for name, value in row.items()
            if isinstance(value, str | None)
        } == {
            name: said[row["task_id"]][name] for name, value in row.items() if isinstance(value, str | None)
        }
    assert {type(rows[0][name]) for name in ("suspected", "agreement")} == {bool, float}


def test_every_label_says_who_or_what_said_it(stand_in, services, digit_crops, tmp_path, monkeypatch):
    stand_in.add_project(1)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops[:200]))
    for task, (_, label) in list(zip(ids, digit_crops, strict=False))[:40]:
        stand_in.annotate(task, label)
    other = next(label for _, label in digit_crops if label != digit_crops[0][1])
    stand_in.annotate(ids[0], other, completed_by=2)
    stand_in.annotate(ids[0], digit_crops[0][1], completed_by=3)
    services.store.save_project(1, connected=True)
    services.loop.catch_up(1)
    crops, _ = bulk_accept.acceptable(services, 1, 0.0, 1000)
    certified, confident = crops[:3], crops[3:5]
    bulk_accept.accept(services, 1, certified, version="accepted, certificate 1")
    record, _ = certificates.begin(services, 1, 0.2)
    services.store.save_certificate(1, replace(record, state="accepted"))
    bulk_accept.accept(services, 1, confident)
    services.loop.sync(1)

    numbers = {"people": 40, "certified": 43, "accepted": 45}
    for level, number in numbers.items():
        export(services, 1, tmp_path / level, Options(level))
        assert len(manifest(tmp_path / level)) == number, level
    export(services, 1, tmp_path / "all", Options("all"))
    rows = manifest(tmp_path / "all")
    latest = services.store.latest_round(1)
    for crop in certified:
        row = rows[crop.task_id]
        assert (row["source"], row["certificate"], row["label"]) == ("certificate", "1", crop.label)
        assert float(row["confidence"]) == pytest.approx(crop.confidence, abs=0.001)
    assert {(rows[c.task_id]["source"], rows[c.task_id]["round"]) for c in confident} == {("accepted", "1")}
    pseudo = [row for row in rows.values() if row["source"] == "pseudo-label"]
    assert pseudo
    assert {(row["round"], row["split"]) for row in pseudo} == {(str(latest.number), "train")}
    assert min(float(row["confidence"]) for row in pseudo) >= latest.threshold
    check_tasks = {*services.store.project(1).check_tasks}
    assert check_tasks - {*ids[:40]}, "some check crops are not labelled"
    assert not {*rows} & (check_tasks - {*ids[:40]}), "of those nothing is said"
    first = rows[ids[0]]
    assert (first["label"], first["agreement"]) == (digit_crops[0][1], "0.6667")
    assert first["annotators"] == "annotator 1; annotator 2; annotator 3"
    assert first["path"] == first["link"] == "", "the picture is in its address"


def test_names_of_annotators_are_told_only_if_asked_for(stand_in, services, labelled, tmp_path):
    stand_in.users = [{"id": 1, "first_name": "Ann", "last_name": "", "email": "ann@example.org"}]
    services.annotator_names.refresh()
    export(services, 1, tmp_path / "plain", Options("people"))
    export(services, 1, tmp_path / "named", Options("people", names=True))
    assert {row["annotators"] for row in manifest(tmp_path / "plain").values()} == {"annotator 1"}
    assert {row["annotators"] for row in manifest(tmp_path / "named").values()} == {"Ann"}


def test_the_same_labels_have_the_same_digest_and_other_labels_are_told_apart(
    stand_in, services, labelled, tmp_path
):
    first = export(services, 1, tmp_path / "a", Options("people")).about["digest"]
    again = export(services, 1, tmp_path / "a", Options("people"))
    assert again.was_there
    assert export(services, 1, tmp_path / "b", Options("people")).about["digest"] == first
    assert compare(tmp_path / "a", tmp_path / "b") == []

    tasks = [*labelled]
    changed = "0" if labelled[tasks[0]] != "0" else "1"
    stand_in.tasks[tasks[0]]["annotations"][0]["result"] = choice(changed)
    stand_in.tasks[tasks[1]]["annotations"].clear()
    services.loop.reconcile(1, whole=True)
    with pytest.raises(DatasetError, match=r"dataset diff.*--replace"):
        export(services, 1, tmp_path / "b", Options("people"))
    assert export(services, 1, tmp_path / "b", Options("people", replace=True)).about["digest"] != first
    found = {one.task_id: one for one in compare(tmp_path / "a", tmp_path / "b")}
    assert {task: one.kind for task, one in found.items()} == {tasks[0]: "label", tasks[1]: "went"}
    assert found[tasks[0]].after["label"] == changed
    assert [one.kind for one in compare(tmp_path / "b", tmp_path / "a")] == ["label", "came"]


def test_a_folder_with_something_else_is_left_alone(services, labelled, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    for replaced in (False, True):
        with pytest.raises(DatasetError, match="something else than a data set"):
            export(services, 1, tmp_path / "mine", Options("people", replace=replaced))
    with pytest.raises(DatasetError, match="is a file"):
        check_folder(tmp_path / "mine" / "thesis.txt", replace=True)
    assert everything(tmp_path) == sorted(
        ["mine/thesis.txt", *(name for name in everything(tmp_path) if name.startswith("state/"))]
    )
    (tmp_path / "empty").mkdir()
    assert export(services, 1, tmp_path / "empty", Options("people")).about["sources"] == {"person": TAKEN}


def test_one_broken_off_goes_on_and_is_never_half_there(services, labelled, tmp_path, monkeypatch):
    read, asked = services.reader.read_picture, []

    def broken_off(address, task_id, **options):
        if len(asked) == 5:
            raise KeyboardInterrupt
        asked.append(task_id)
        return read(address, task_id, **options)

    services = replace(services, settings=services.settings.model_copy(update={"download_threads": 1}))
    monkeypatch.setattr(services.reader, "read_picture", broken_off)
    with pytest.raises(KeyboardInterrupt):
        export(services, 1, tmp_path / "d", Options("people", copy=True))
    assert not (tmp_path / "d").exists()
    monkeypatch.setattr(services.reader, "read_picture", read)

    # The next run is broken off while it writes.
    monkeypatch.setattr(writing.readme, "text", lambda about: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(services, 1, tmp_path / "d", Options("people", copy=True))
    assert not (tmp_path / "d").exists()
    monkeypatch.undo()
    monkeypatch.setattr(
        services.reader, "read_picture", lambda *_, **__: pytest.fail("all of them are there")
    )
    export(services, 1, tmp_path / "d", Options("people", copy=True))
    assert all((tmp_path / "d" / row["path"]).is_file() for row in manifest(tmp_path / "d").values())
    assert not (tmp_path / ".d.unfinished").exists()


def test_a_full_disk_is_said_and_what_was_fetched_is_kept(services, labelled, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.manifest, "write", full)
    with pytest.raises(DatasetError, match=r"No space left.*run it again"):
        export(services, 1, tmp_path / "d", Options("people", copy=True))
    assert len(everything(tmp_path / ".d.unfinished" / "fetched")) == TAKEN
    assert not (tmp_path / "d").exists()


def test_a_broken_crop_is_named_and_passed_over(stand_in, services, labelled, tmp_path):
    damaged, *_ = labelled
    stand_in.tasks[damaged]["data"]["image"] = data_uri(b"\x89PNG\r\n\x1a\nno picture")
    services.loop.reconcile(1, whole=True)
    done = export(services, 1, tmp_path / "d", Options("people", copy=True))
    row = manifest(tmp_path / "d")[damaged]
    assert row["path"] == ""
    assert "damaged" in row["problem"]
    assert done.problems.keys() == {damaged}
    assert done.about["problems"] == 1
    assert len(everything(tmp_path / "d" / "train")) == TAKEN - 4 - 1 + 1, "and the metadata of the split"


def test_if_no_crop_can_be_fetched_there_is_no_data_set(stand_in, services, labelled, tmp_path):
    for task in labelled:
        stand_in.tasks[task]["data"]["image"] = "http://127.0.0.1:9/gone.png"
    services.loop.reconcile(1, whole=True)
    with pytest.raises(DatasetError, match=r"None of the 16 crops could be fetched.*Without --copy"):
        export(services, 1, tmp_path / "d", Options("people", copy=True))
    assert not (tmp_path / ".d.unfinished").exists(), "nothing was fetched that could be kept"
    export(services, 1, tmp_path / "d", Options("people"))
    assert {row["link"] for row in manifest(tmp_path / "d").values()} == {"http://127.0.0.1:9/gone.png"}


def test_two_exports_into_one_folder_do_not_meet(services, labelled, tmp_path):
    with writing._work_folder(tmp_path / "d"), pytest.raises(DatasetError, match="is under way"):
        export(services, 1, tmp_path / "d", Options("people"))


def test_without_a_label_it_is_said_what_to_do(stand_in, services, digit_crops, tmp_path):
    stand_in.add_project(1)
    stand_in.add_tasks(1, digit_crops[0][0])
    services.loop.sync(1)
    with pytest.raises(NothingLabelledError, match="Label All Tasks"):
        export(services, 1, tmp_path / "d", Options("certified"))
    assert not (tmp_path / "d").exists()


REGIONS = (
    '<View><Image name="image" value="$image" crop="$x $y $width $height" cropRotation="$rotation" '
    'cropPoints="$points" cropUnit="percent"/><Rectangle name="box" toName="image"/>'
    '<Polygon name="outline" toName="image"/>'
    '<Choices name="digit" toName="image" choice="multiple"><Choice value="a/b"/><Choice value="A_b"/></Choices></View>'
)


def test_regions_are_cut_out_and_listed_as_coco(stand_in, services, tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (200, 100), "red").save(file, "PNG")
    stand_in.add_project(1, REGIONS)
    ids = stand_in.add_tasks(1, *[data_uri(file.getvalue())] * 3)
    shapes = (
        {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0},
        {"points": [[0, 0], [50, 0], [50, 50]]},
        {"x": 50, "y": 50, "width": 20, "height": 20, "rotation": 90},
    )
    for task, shape in zip(ids, shapes, strict=True):
        stand_in.tasks[task]["data"] |= {**shape, "file_name": "photo.png"}
        stand_in.annotate(task, "a/b")
    both = [{**choice("a/b")[0], "value": {"choices": ["a/b", "A_b"]}}]
    stand_in.annotate(ids[1], None, result=both, completed_by=1)
    services.loop.sync(1)
    services.store.save_project(1, check_tasks=[ids[2]])
    export(services, 1, tmp_path / "d", Options("people", copy=True))

    rows = manifest(tmp_path / "d")
    assert rows[ids[0]]["path"] == "train/a_b/photo.png"
    assert rows[ids[1]]["label"] == "A_b + a_b".replace("a_b", "a/b")
    with Image.open(tmp_path / "d" / rows[ids[0]]["path"]) as cut:
        assert cut.size == (60, 40)
    train = json.loads((tmp_path / "d" / "coco" / "train.json").read_text())
    (picture,) = train["images"]
    assert (picture["width"], picture["height"], picture["file_name"]) == (200, 100, "pictures/photo.png")
    with Image.open(tmp_path / "d" / "coco" / picture["file_name"]) as whole:
        assert whole.size == (200, 100)
    names = {category["id"]: category["name"] for category in train["categories"]}
    box, *outlines = train["annotations"]
    assert (box["bbox"], box["area"], names[box["category_id"]]) == ([20, 20, 60, 40], 2400, "a/b")
    assert {names[one["category_id"]] for one in outlines} == {"a/b", "A_b"}
    assert outlines[0]["segmentation"] == [[0, 0, 100, 0, 100, 50]]
    assert outlines[0]["area"] == 2500
    test = json.loads((tmp_path / "d" / "coco" / "test.json").read_text())
    (turned,) = test["annotations"]
    assert turned["bbox"] == [80, 50, 20, 40], "around its upper left corner, in pixels"
    files = everything(tmp_path / "d")
    export(services, 1, tmp_path / "d", Options("people", copy=True, replace=True))
    assert everything(tmp_path / "d") == files, "nothing there is anybody else's"


TEXTS = (
    '<View><Text name="text" value="$words"/><Choices name="digit" toName="text">'
    '<Choice value="None"/><Choice value="1"/></Choices></View>'
)


def test_texts_are_exported_as_they_are(stand_in, services, tmp_path):
    stand_in.add_project(1, TEXTS)
    ids = stand_in.add_tasks(1, "", "")
    for task, label in zip(ids, ("None", "1"), strict=True):
        stand_in.tasks[task]["data"] = {"words": f"a text,\n{label}" * 2000}
        stand_in.annotate(task, None, result=[{**choice(label)[0], "to_name": "text"}])
    services.store.save_project(1, label_config=TEXTS, check_tasks=[ids[1]])
    services.loop.reconcile(1)
    export(services, 1, tmp_path / "d", Options("people", copy=True))
    (line,) = (tmp_path / "d" / "train.jsonl").read_text().splitlines()
    assert json.loads(line)["text"] == "a text,\nNone" * 2000, "the store keeps a part of it alone"
    assert json.loads(line)["label"] == "None"
    assert json.loads((tmp_path / "d" / "test.jsonl").read_text())["label"] == "1"
    assert manifest(tmp_path / "d")[ids[0]]["link"] == ""
    for copy in (False, True):
        again = export(services, 1, tmp_path / "d", Options("people", copy=copy))
        assert (again.was_there, again.about["copied"]) == (True, False), "texts have no files to copy"
